"""The recipe of cluster/README.md for plain hosts."""

import re
import subprocess

from tests.support.cluster import BIN, REPOSITORY


def exported() -> dict[str, str]:
    """Return the variables that the recipe exports before it starts Ray, in this installation."""
    text = (REPOSITORY / "cluster" / "README.md").read_text("utf-8")
    [recipe] = re.findall(r"## Plain hosts\n.*?```bash\n(.*?)```", text, re.DOTALL)
    lines = [line for line in recipe.splitlines() if line.startswith("export ")]
    done = subprocess.run(
        ["bash", "-c", "\n".join([*lines, "env --null"])],
        env={"PATH": f"{BIN}:/usr/bin:/bin"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    variables = dict(each.split("=", 1) for each in done.stdout.split("\0") if each)
    return {name: variables[name] for name in variables if name.startswith(("RAY_", "S2S_"))}
