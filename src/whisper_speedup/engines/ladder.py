"""The ladder: engine `fused` with its parts switched on one at a time, each rung an engine of its own."""

from typing import Annotated

from pydantic import AfterValidator, Field, RootModel

from whisper_speedup.engines.fused import Fused, FusedParams
from whisper_speedup.errors import UserError
from whisper_speedup.fused.switches import PLAIN_SWITCHES, SWITCHES, Switch
from whisper_speedup.params.engines import RUNG


def _whole_rungs(ladder: dict[str, list[Switch]]) -> dict[str, list[Switch]]:
    seen: dict[frozenset[Switch], str] = {}
    for name, on in ladder.items():
        for number, switch in enumerate(SWITCHES[len(PLAIN_SWITCHES) :], len(PLAIN_SWITCHES)):
            missing = [needed for needed in SWITCHES[:number] if needed not in on]
            if switch in on and missing:
                raise ValueError(f"rung {name} has {switch} without {missing[0]}, which it needs")
        other = seen.setdefault(frozenset(on), name)
        if other != name:
            raise ValueError(f"rungs {other} and {name} are the same")
    return ladder


RungName = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
Rungs = Annotated[dict[RungName, list[Switch]], AfterValidator(_whole_rungs)]


class LadderParams(RootModel[Rungs]):
    """Rungs by name, each the parts of engine `fused` that it has switched on."""

    root: Rungs = Field({})


class Rung(Fused):
    """One of them. It does not read measure.fused: its precision follows from its parts."""

    Params = LadderParams

    def __init__(self, params: LadderParams, name: str) -> None:
        on = params.root.get(name.removeprefix(RUNG))
        if on is None:
            known = ", ".join(RUNG + rung for rung in params.root) or "none"
            raise UserError(f"the profile's measure.ladder has no rung for {name}: its rungs are {known}.")
        super().__init__(FusedParams(), name, on)
