"""No password of a storage is ever shown."""

import pytest

from harness.errors import UserError
from harness.tuning.storage import first_line, lock_folder, open_storage, told

URLS = [
    "postgresql://u:s3cr3t@localhost:1/db",
    "postgresql://u:s3cr3t@localhost:x/db",
    "postgresql://u:s3cr3t@:99999/db",
    "postgresql://u:s3cr3t",
    "postgresql://u:a@s3cr3t@localhost:1/db",
    "postgresql://u:a/s3cr3t@localhost:1/db",
    "postgresql://u:a?s3cr3t@localhost:1/db",
    "postgresql://localhost:1/db?user=u&password=s3cr3t",
    "postgresql://localhost:1/db?user=u&passwort=s3cr3t",
    "postgresql://localhost:1/db?sslpassword=s3cr3t&port=s3cr3t",
    "postgresql:s3cr3t",
    "nosuch://u:s3cr3t@h/db",
    "sqlite:///none/x.db?password=s3cr3t",
    "sqlite:///x.db?password=s3cr3t&mode=s3cr3t&uri=true",
    "s3cr3t@h/db?x",
]


@pytest.mark.parametrize("url", [*URLS, *(u.replace("s3cr3t", "%733cr3t") for u in URLS)])
def test_a_storage_that_cannot_be_opened_keeps_its_password(tmp_path, monkeypatch, url):
    monkeypatch.chdir(tmp_path)
    shown = told(url)
    try:
        open_storage(url, tmp_path / "s")
    except UserError as error:
        shown += str(error)
    assert "s3cr3t" not in shown
    assert "733cr3t" not in shown


def test_what_is_no_password_is_told(tmp_path):
    url = "postgresql://u:s3cr3t@db.example.org:5432/harness?password=0ther"
    said = 'no host "db.example.org", port 5432, user "u", database "harness"'

    assert first_line(RuntimeError(f"{said}: s3cr3t 0ther"), url) == f"{said}: *** ***"
    assert told(url) == "postgresql:..."
    assert told("journal:/a/b.log") == "journal:/a/b.log"
    with pytest.raises(UserError, match=r"--storage sqlite:///.*/none/x\.db: no such folder .*/none$"):
        lock_folder(f"sqlite:///{tmp_path}/none/x.db?password=s3cr3t", tmp_path)
