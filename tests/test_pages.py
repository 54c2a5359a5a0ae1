"""The runner of the pages fails where a page is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import pages

PAGE = """
```python title="mine.py"
answer = {answer}
```

```python
from mine import answer

print("six", 6.00001)
```

```text
six 6.0
```

Words.

```console
$ tokenrank {command}  # a comment
ls
tokenrank image PICTURE
```

<!-- not run: needs weights -->
```python
raise ValueError
```
"""


def written(folder: Path, answer: str = "42", command: str = "--version", page: str = PAGE) -> Path:
    file = folder / "page.md"
    file.write_text(page.format(answer=answer, command=command), encoding="utf-8")
    return file


def test_a_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    page = written(tmp_path)
    assert pages.run(page, {})["answer"] == 42
    assert (tmp_path / "mine.py").read_text(encoding="utf-8").startswith("answer = 42")
    assert [step.line for step in pages.steps(page)] == [2, 6, 18, 25]
    assert [step.why for step in pages.python(page)] == [None, None, "needs weights"]


def test_what_is_printed_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(AssertionError, match="and not\nsix 7"):
        pages.run(written(tmp_path, page=PAGE.replace("six 6.0\n", "six 7.0\n")), {})


def test_a_command_that_fails_fails_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(AssertionError, match=r"page.md:18 .*nothing-there"):
        pages.run(written(tmp_path, command="image nothing-there.jpg"), {})


def test_python_that_fails_names_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    page = written(tmp_path, page=PAGE.replace("print(", "1 / 0; print("))
    with pytest.raises(ZeroDivisionError) as caught:
        pages.run(page, {})
    assert caught.traceback[-1].lineno + 1 == 9


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("tokenrank image cat.jpg --model facebook/dinov2-small", "needs a model of a hub"),
        ("tokenrank evaluate saliency --data DIR", "needs files of yours"),
        ('tokenrank text "THE CAT SAT"', None),
        ("tokenrank image cat.jpg", None),
    ],
)
def test_lines_that_cannot_run(line: str, why: str | None) -> None:
    assert pages.left_out(line) == why


@pytest.mark.parametrize("fence", ["  ```python\n  1\n  ```", "> ```python\n> 1\n> ```", "    ```console", "~~~python"])
def test_hidden_fences_are_seen(fence: str) -> None:
    assert pages.HIDDEN.search(f"- a list\n\n{fence}\n")
