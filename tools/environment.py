"""Build a virtual environment from hashed constraints, on a machine with Python only.

Usage: ``python3 tools/environment.py FOLDER CONSTRAINTS``

Every package is checked against its hash before it is installed. uv does the same
work faster where it is present. The project itself goes in last, editable and
without dependencies, built by what the constraints brought.

Its own syntax is old enough for an old Python to say that a newer one is needed.
"""

import os
import shutil
import subprocess
import sys
import venv

OLDEST = (3, 11)
NAMES = ("python3.13", "python3.12", "python3.11", "python3.14")


def main(folder: str, constraints: str) -> int:
    """Build ``folder`` and say in two lines what hinders it, if anything does."""
    if sys.version_info < OLDEST:
        return hand_over(folder, constraints)
    try:
        make_folder(folder)
        install(folder, constraints)
    except subprocess.CalledProcessError as error:
        return complain(
            f"{error.cmd[0]} failed with exit code {error.returncode}",
            "its message may stand above; Debian needs python3-venv; 'make clean' begins anew",
        )
    return 0


def hand_over(folder: str, constraints: str) -> int:
    """Let a newer Python on the path do it."""
    check = f"import sys; sys.exit(sys.version_info < {OLDEST})"
    for python in filter(None, map(shutil.which, NAMES)):
        # A name on the path may be a version manager's, with no such version behind it.
        if subprocess.call([python, "-c", check], stderr=subprocess.DEVNULL) == 0:
            return subprocess.call([python, os.path.abspath(__file__), folder, constraints])
    return complain(
        f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}",
        "install one, or name it: make PYTHON=/path/to/python3.12 ...",
    )


def make_folder(folder: str) -> None:
    """Create the environment, with pip unless uv will do the installing."""
    if os.path.exists(python_of(folder)):
        return
    try:
        venv.create(folder, with_pip=shutil.which("uv") is None)
    except subprocess.CalledProcessError:
        # Half an environment would pass for a whole one the next time.
        shutil.rmtree(folder, ignore_errors=True)
        raise


def install(folder: str, constraints: str) -> None:
    """Install the constraints, then the project."""
    python = python_of(folder)
    uv = shutil.which("uv")
    if uv:
        installer = [uv, "pip", "install", "--quiet", "--python", python]
    else:
        installer = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    print(f"installing {constraints} into {folder}", flush=True)
    subprocess.check_call([*installer, "--require-hashes", "-r", constraints])
    subprocess.check_call([*installer, "--no-deps", "--no-build-isolation", "-e", "."])


def python_of(folder: str) -> str:
    """Return the environment's interpreter."""
    if os.name == "nt":
        return os.path.join(folder, "Scripts", "python.exe")
    return os.path.join(folder, "bin", "python")


def complain(what: str, hint: str) -> int:
    """Print an error in two lines."""
    sys.stderr.write(f"{what}\n  hint: {hint}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
