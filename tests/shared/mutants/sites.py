"""Where a source file can be changed by cosmic-ray's operators, and which of all changes are tried."""

import ast
import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass

import parso
from cosmic_ray.ast import ast_nodes
from cosmic_ray.operators.provider import OperatorProvider

ARITHMETIC = {"Add", "Sub", "Mul", "Div", "FloorDiv", "Mod", "Pow"}
BITS = {"BitOr", "BitAnd", "BitXor"}
ORDER = {"Eq", "NotEq", "Lt", "LtE", "Gt", "GtE"}
SAME = {"Is", "IsNot"}

SIDED = {"+", "-", "*", "/", "//", "%", "**", "|", "&", "^"}
BINARY = {"arith_expr", "term", "power", "expr", "and_expr", "xor_expr"}
"""Nodes in which an operator has two sides; elsewhere a star unpacks."""

TYPES = {"Annotated", "Literal", "TypeVar", "Info"}
"""Calls and subscripts that hold text and types: nothing in them is changed."""


def sensible(operator):
    """Whether an operator makes what a slip could make: `a << b` in place of `a + b` fails for nearly all types."""
    kind, _, swap = operator.__name__.partition("Operator_")
    if kind not in ("ReplaceBinary", "ReplaceComparison"):
        return True
    return any(set(swap.split("_")) <= group for group in (ARITHMETIC, BITS, ORDER, SAME))


def operators():
    """Those of cosmic-ray that need no arguments and are sensible, in a fixed order, each with the kind it is of."""
    provider = OperatorProvider()
    usable = (provider[name] for name in provider if not provider[name].arguments() and sensible(provider[name]))
    return [(o.__module__.rsplit(".", 1)[-1], o()) for o in usable]


OPERATORS = operators()


@dataclass(frozen=True)
class Site:
    """A place where one kind of operator applies: the node's position in the walk, and what can be done there."""

    file: str
    line: str
    """The text of the line, without what surrounds it; the number of the line is no part of its name."""
    kind: str
    nth: int
    """Which of the sites of this kind in lines of this text, from the top of the file."""
    number: int
    node: int
    variants: tuple

    def hash(self, seed):
        """A number that depends on the seed and the name of the site alone."""
        name = "\0".join((str(seed), self.file, self.line, self.kind, str(self.nth)))
        return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


@dataclass(frozen=True)
class Mutant:
    """A file with one change. `file`, `line`, `becomes` and `nth` name it, and stay when other lines change."""

    file: str
    line: str
    becomes: str
    nth: int
    number: int
    """The line's number today, from 1."""
    source: str

    @property
    def id(self):
        """What survivors are listed by."""
        return self.file, self.line, self.becomes, self.nth


def inside(node):
    """The node's ancestors, each with the child through which it holds the node."""
    while node.parent is not None:
        yield node.parent, node
        node = node.parent


def untouched(node):
    """Whether a change here is of no interest: types, cards, messages of errors, what only type checkers run."""
    if node.type == "operator" and node.value in SIDED and node.parent.type not in BINARY:
        return True
    if node.type == "decorator" and node.children[1].get_code() in ("overload", "override"):
        return True
    for parent, child in [*inside(node), (node, None)]:
        match parent.type:
            case "annassign" if child is parent.children[1]:
                return True
            case "tfpdef":
                return True
            case "funcdef" if child is not None and child is parent.annotation:
                return True
            case "raise_stmt":
                return True
            case "if_stmt" if parent.children[1].get_code().strip().endswith("TYPE_CHECKING"):
                return True
            case "expr_stmt" if parent.children[0].get_code().strip() == "__all__":
                return True
            case "atom_expr" if parent.children[0].get_code().strip() in TYPES:
                return True
    return False


def sites(file, text):
    """All sites of a file, from top to bottom; those of one kind at one node are one site with several variants."""
    lines, seen, found = text.splitlines(), Counter(), []
    for index, node in enumerate(ast_nodes(parso.parse(text))):
        variants, where = defaultdict(list), {}
        for kind, operator in OPERATORS:
            for k, (start, _) in enumerate(operator.mutation_positions(node)):
                variants[kind].append((operator, k))
                where.setdefault(kind, start[0])
        if not variants or untouched(node):
            continue
        for kind, ways in variants.items():
            line = lines[where[kind] - 1].strip()
            found.append(Site(file, line, kind, seen[line, kind], where[kind], index, tuple(ways)))
            seen[line, kind] += 1
    return found


def changed(text, site, variant):
    """The text of the file with that variant of the site."""
    tree = parso.parse(text)
    node = list(ast_nodes(tree))[site.node]
    operator, k = site.variants[variant]
    parent = node.parent
    new = operator.mutate(node, k)
    if new is not node:
        at = next(i for i, child in enumerate(parent.children) if child is node)
        parent.children[at : at + 1] = [] if new is None else [new]
    return tree.get_code()


def meaning(text):
    """What the code says, without its layout; None where it is no Python."""
    try:
        return ast.dump(ast.parse(text))
    except SyntaxError:
        return None


def mutant(site, text, seed):
    """One mutant of a site, which the seed chooses among those that are Python and say something else; or None."""
    said = meaning(text)
    for turn in range(len(site.variants)):
        source = changed(text, site, (site.hash(seed) + turn) % len(site.variants))
        if meaning(source) not in (None, said):
            pairs = zip(text.splitlines(), source.splitlines(), strict=False)
            becomes = next((new.strip() for old, new in pairs if old != new), "")
            if len(source.splitlines()) < len(text.splitlines()):
                becomes = ""  # the line is gone
            return Mutant(site.file, site.line, becomes, site.nth, site.number, source)
    return None


def chosen(root, package, count, seed):
    """`count` mutants of a package, by the hashes of their sites, so that a new file changes few of the choices."""
    texts = {str(p.relative_to(root)): p.read_text() for p in sorted((root / package).rglob("*.py"))}
    every = [site for file, text in texts.items() for site in sites(file, text)]
    found = []
    for site in sorted(every, key=lambda s: s.hash(seed)):
        if len(found) == count:
            break
        if (one := mutant(site, texts[site.file], seed)) is not None:
            found.append(one)
    return found, len(every)
