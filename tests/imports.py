"""The code that a step imports, as dvc.yaml lists it."""

import ast

from samples import ROOT


def code_dependencies(step: str) -> set[str]:
    """Return what `tasks/<step>.py` imports, directly or indirectly, and the file.

    A library is its folder, `tasks/training`; a step is its file, `tasks/train.py`.
    """
    found: set[str] = set()
    queue = [f"tasks/{step}.py"]
    while queue:
        path = queue.pop()
        if path in found:
            continue
        found.add(path)
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            names = []
            if isinstance(node, ast.ImportFrom):
                names = [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            files = (f"{name.replace('.', '/')}.py" for name in names)
            queue += [file for file in files if (ROOT / file).exists()]
    return {"/".join(path.split("/")[:2]) for path in found}
