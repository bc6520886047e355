"""What the images of a folder bear without changing their class, as `[data]` may declare it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from harness.errors import UserError
from harness.values import Added, Strict


class Declared(Strict):
    """What may be done to an image of a folder; what is not given is as for photographs.

    `flip`: a horizontal mirror (true; a mirrored letter is another one). `shift`: the largest translation, a fraction
    of the side (0.125). `rotation`: the largest rotation in degrees (15). `color`: changes of hue and saturation
    (true). Tricks do no more unless they are forced to, and a recipe that does is refused.
    """

    flip: Annotated[bool | None, Added(None)] = None
    shift: Annotated[float | None, Field(ge=0, le=0.5), Added(None)] = None
    rotation: Annotated[float | None, Field(ge=0, le=180), Added(None)] = None
    color: Annotated[bool | None, Added(None)] = None

    @property
    def declared(self) -> dict[str, Any]:
        """What is given, by name."""
        return {name: value for name in Declared.model_fields if (value := getattr(self, name)) is not None}

    def check(self, augment: object) -> None:
        """Refuse an augmentation that does more than is declared.

        Raises:
            UserError: it does; the line names both.
        """
        for name, most in self.declared.items():
            value = getattr(augment, name, None)
            if value is not None and value > most:
                done, borne = str(value).lower(), str(most).lower()
                raise UserError(
                    f"recipe.augment.{name} = {done} may change the class of images for which data.{name} = {borne} is "
                    "declared; lower the one or raise the other"
                )
