"""Run a Dockerfile's instructions in a folder, without a container engine: `run_dockerfile.py ROOT [NAME=VALUE ...]`.

    debootstrap --variant=minbase bookworm build/root
    python tools/run_dockerfile.py build/root TORCH=cpu BASE=debian:12

ROOT is a fresh Debian or Ubuntu, which stands for the file's base; NAME=VALUE are build arguments. RUN happens in a
chroot with a process list and a /proc of its own and this machine's network; COPY, ENV, ARG, USER and WORKDIR do what
they say; CMD runs last. Needs root. It is a check of the commands and no container: no layers, no limits.

This machine's settings of apt and pip, its certificates and names of hosts are lent to ROOT, as an engine lends its
network; PIP_FIND_LINKS's folder is copied.
"""

import fnmatch
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

CONTEXT = Path(__file__).resolve().parents[1]
SERVED = {"FROM", "ARG", "ENV", "RUN", "COPY", "USER", "WORKDIR", "CMD"}
LENT = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/pip.conf",
    "/etc/xdg/pip",
    "/etc/ssl/certs",
    "/usr/local/share/ca-certificates",
]


@dataclass
class State:
    """What instructions leave for those that follow them."""

    arguments: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(
        default_factory=lambda: {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    )
    user: str = "root"
    folder: str = "/"
    stages: set[str] = field(default_factory=set)


def parse(text: str) -> list[tuple[str, str]]:
    """(instruction, rest) of each, continued lines joined. Raises ValueError for an instruction that is not served."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines) + "\n")
    found = []
    for line in filter(str.strip, joined.splitlines()):
        name, _, rest = line.strip().partition(" ")
        if name.upper() not in SERVED:
            raise ValueError(f"{name} is not served here: {', '.join(sorted(SERVED))} are.")
        found.append((name.upper(), rest.strip()))
    return found


def expand(text: str, state: State) -> str:
    """$NAME and ${NAME} of arguments and environment; an unknown one is empty, as Docker has it."""
    known = {**state.arguments, **state.environment}
    return re.sub(r"\$\{(\w+)\}|\$(\w+)", lambda match: known.get(match[1] or match[2], ""), text)


def ignored(name: str, patterns: list[str]) -> bool:
    """Whether .dockerignore leaves out a path of the context, or a folder above it."""
    parts = name.split("/")
    for pattern in patterns:
        anywhere = pattern.startswith("**/")
        for depth in range(1, len(parts) + 1):
            tried = [parts[depth - 1], "/".join(parts[:depth])] if anywhere else ["/".join(parts[:depth])]
            if any(fnmatch.fnmatchcase(one, pattern.removeprefix("**/")) for one in tried):
                return True
    return False


def copy(rest: str, root: Path, state: State) -> None:
    """COPY [--chown=user:group] SOURCE ... TARGET, from the context alone."""
    words = shlex.split(expand(rest, state))
    flags = [word for word in words if word.startswith("--")]
    *sources, target = words[len(flags) :]
    owner = next((flag.split("=", 1)[1] for flag in flags if flag.startswith("--chown=")), "root:root")
    if any(flag.startswith("--from=") for flag in flags):
        raise ValueError("COPY --from is not served here: there is one root.")
    place = os.path.normpath(os.path.join(state.folder, target))
    lines = (CONTEXT / ".dockerignore").read_text().splitlines()
    ignore = [line.strip() for line in lines if line.strip() and line[0] != "#"]
    made: list[str] = []
    for source in sources:
        matches = sorted(CONTEXT.glob(source)) if source != "." else [CONTEXT]
        if not matches:
            raise ValueError(f"COPY: the context has no {source}.")
        for match in matches:
            whole = match.is_dir() or (len(sources) == 1 and not target.endswith("/"))
            made += copy_one(match, root, place if whole else f"{place}/{match.name}", ignore)
    for start in range(0, len(made), 1000):
        run_in(root, ["chown", "-h", owner, *made[start : start + 1000]], State())


def copy_one(source: Path, root: Path, target: str, ignore: list[str]) -> list[str]:
    """One file or a folder's content; returns the paths in the root."""
    files = [source] if source.is_file() else [path for path in source.rglob("*") if not path.is_dir()]
    made = []
    for path in files:
        if ignored(path.relative_to(CONTEXT).as_posix(), ignore):
            continue
        place = target if source.is_file() else f"{target}/{path.relative_to(source).as_posix()}"
        for parent in reversed(Path(place).parents):
            if not (root / str(parent).lstrip("/")).exists():
                (root / str(parent).lstrip("/")).mkdir()
                made.append(str(parent))
        shutil.copy2(path, root / place.lstrip("/"), follow_symlinks=False)
        made.append(place)
    return made


def run_in(root: Path, command: list[str], state: State) -> None:
    """A command in the root, as the state's user, in its folder. Ends with the command's code when it fails."""
    inside = ["chroot", f"--userspec={state.user}", str(root), "/usr/bin/env", "-i"]
    home = "/root" if state.user == "root" else f"/home/{state.user}"
    values = {**state.arguments, "HOME": home, **state.environment}
    inside += [
        *(f"{name}={value}" for name, value in values.items()),
        "/bin/sh",
        "-c",
        'cd "$0" && exec "$@"',
        state.folder,
    ]
    proc, shm = (shlex.quote(str(root / name)) for name in ("proc", "dev/shm"))
    mounts = f'mount -t proc proc {proc} && mkdir -p {shm} && mount -t tmpfs tmpfs {shm} && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "/bin/sh", "-c", mounts, "sh", *inside, *command], check=False
    )
    if done.returncode:
        print(f"error: {' '.join(command)[:100]} ended with {done.returncode}", file=sys.stderr)
        sys.exit(done.returncode)


def lend(root: Path, state: State) -> None:
    """What an engine's network gives a build: names, certificates, the package indexes of this machine."""
    for name in LENT:
        if Path(name).is_dir():
            shutil.copytree(name, root / name[1:], dirs_exist_ok=True, symlinks=False, ignore_dangling_symlinks=True)
        elif Path(name).is_file():
            shutil.copy2(name, root / name[1:])
    shutil.rmtree(root / "etc/apt/sources.list.d", ignore_errors=True)
    shutil.copytree("/etc/apt/sources.list.d", root / "etc/apt/sources.list.d")
    (root / "etc/apt/sources.list").write_text("")
    for name in ("PIP_CERT", "SSL_CERT_FILE", "PIP_DEFAULT_TIMEOUT", "PIP_FIND_LINKS"):
        if os.environ.get(name):
            state.arguments[name] = os.environ[name]
    links = os.environ.get("PIP_FIND_LINKS", "")
    if Path(links).is_dir() and links:
        shutil.copytree(links, root / links.lstrip("/"), dirs_exist_ok=True)


def main(arguments: list[str], dockerfile: Path = CONTEXT / "Dockerfile") -> int:
    """0 once every instruction has run."""
    if not arguments or os.geteuid() != 0:
        print("error: say run_dockerfile.py ROOT [NAME=VALUE ...], as root: chroot and mount need it.", file=sys.stderr)
        return 2
    root = Path(arguments[0]).resolve()
    if not (root / "bin" / "sh").exists():
        print(f"error: {root} is no system to run in: make one with debootstrap.", file=sys.stderr)
        return 2
    given = dict(argument.split("=", 1) for argument in arguments[1:])
    state = State()
    lend(root, state)
    for name, rest in parse(dockerfile.read_text()):
        print(f"=> {name} {rest[:100]}", flush=True)
        if name == "ARG":
            key, _, default = rest.partition("=")
            state.arguments[key] = given.get(key, expand(default, state))
        elif name == "ENV":
            state.environment |= dict(expand(pair, state).split("=", 1) for pair in shlex.split(rest))
        elif name == "FROM":
            base, *named = expand(rest, state).split(" AS ")
            if state.stages and base not in state.stages:
                raise ValueError(f"FROM {base}: one root holds one chain of stages, {', '.join(state.stages)}.")
            state.stages |= {base, *named}
        elif name == "USER":
            state.user = rest
        elif name == "WORKDIR":
            state.folder = os.path.join(state.folder, expand(rest, state))
        elif name == "COPY":
            copy(rest, root, state)
        elif name == "RUN":
            run_in(root, ["/bin/sh", "-c", rest], state)
        else:
            run_in(root, shlex.split(rest.strip("[]").replace(",", " ")), state)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
