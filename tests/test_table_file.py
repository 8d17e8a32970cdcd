"""Tables as participants save them: read rightly, or refused with a line."""

from __future__ import annotations

import codecs
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from monai_vqbrain.cohorts.table_file import read_table
from monai_vqbrain.options import slicing_options

RIGHT = [{"id": "a", "age": "70", "dx": "AD"}, {"id": "b", "age": "71", "dx": "CN"}]
PLAIN = "id,age,dx\na,70,AD\nb,71,CN\n"


def read(folder: Path, content: str | bytes, name: str = "t.csv") -> tuple[list[dict], list[str]]:
    """The rows of a file with this content, and the problems that are listed of it."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    table, problems = read_table(path)
    assert {problem.path for problem in problems} <= {name}
    return table.to_dict("records"), [problem.problem for problem in problems]


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", ", "),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        PLAIN.replace("\n", "\n\n"),
        PLAIN.replace("AD\n", "AD,\n").replace("CN\n", "CN,\n"),
        PLAIN.replace("\n", ",,\n"),
        "id,age,dx\na,70,AD,\nb,71,CN\n",
        '"id","age","dx"\n"a","70","AD"\n"b","71","CN"\n',
        "sep=;\n" + PLAIN.replace(",", ";"),
        codecs.BOM_UTF8 + PLAIN.encode(),
        PLAIN.encode("utf-16"),
        PLAIN.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + PLAIN.encode("utf-16-be"),
        PLAIN.encode("utf-16-be"),
    ],
)
@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
def test_a_table_is_read_rightly(tmp_path: Path, content: str | bytes, name: str) -> None:
    assert read(tmp_path, content, name) == (RIGHT, [])


def test_cells_stay_text(tmp_path: Path) -> None:
    content = 'id,group,age,visit\n007,NA,"70,5","ADNI1/GO, Month 12"\nnull,nan,n/a,"1\n2"\n'
    assert read(tmp_path, content) == (
        [
            {"id": "007", "group": "NA", "age": "70,5", "visit": "ADNI1/GO, Month 12"},
            {"id": "null", "group": "nan", "age": "n/a", "visit": "1\n2"},
        ],
        [],
    )


def test_semicolons_leave_decimal_commas_alone(tmp_path: Path) -> None:
    rows, problems = read(tmp_path, "id;age, years\na;70,5\nb;71,5\n")
    assert (rows, problems) == (
        [{"id": "a", "age, years": "70,5"}, {"id": "b", "age, years": "71,5"}],
        [],
    )


@pytest.mark.parametrize(
    "content",
    [
        'id,age,dx\na,70,AD\n"b,71,CN\n',
        'id,age,dx\n"a,70,AD\n"b,71,CN\n',
        'id,age,dx\na,70,"AD\nb,71,CN"\n',
        'id,age,dx\n"a"x,70,AD\nb,71,CN\n',
    ],
)
def test_a_stray_quotation_mark_takes_no_row_away(tmp_path: Path, content: str) -> None:
    rows, problems = read(tmp_path, content)
    assert [row["age"] for row in rows] == ["70", "71"]
    assert problems == ["has an unpaired quotation mark, read as a letter"]


def test_a_quotation_mark_within_a_cell_is_a_letter(tmp_path: Path) -> None:
    assert read(tmp_path, 'id\tage\nO"Brien\t7\n', "t.tsv")[0] == [{"id": 'O"Brien', "age": "7"}]


def test_short_rows_are_filled_and_said(tmp_path: Path) -> None:
    rows, problems = read(tmp_path, "id,age,dx\na,70\nb,71,CN\n")
    assert rows == [{"id": "a", "age": "70", "dx": ""}, RIGHT[1]]
    assert problems == ["1 of its rows end before the last column, filled with empty cells"]


def test_columns_of_one_name_are_told_apart(tmp_path: Path) -> None:
    assert read(tmp_path, "id,age,age\na,1,2\n")[0] == [{"id": "a", "age": "1", "age.1": "2"}]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is empty"),
        ("\n\n", "it is empty"),
        ("id,age,sex\na,70,5,F\nb,71,5,M\n", "line 2 has 4 cells and the header 3"),
        ("id,age,sex,\na,70,5,F\n", "line 2 has 4 cells and the header 3"),
        ('id,name\n1,"a, b"\n2,"c\n3,d\n', "line 2 has 3 cells and the header 2"),
        ("a,b\n1,ä\n1,2,3\n".encode("latin-1"), "line 3 has 3 cells and the header 2"),
        (b"id,age\na\0,1\n", "it contains null bytes"),
        (PLAIN.encode("utf-16")[:-1], "it contains null bytes"),
    ],
)
def test_what_would_need_a_guess_is_refused(tmp_path: Path, content: str | bytes, why: str) -> None:
    assert read(tmp_path, content) == ([], [f"cannot be read as a table ({why})"])


def test_another_encoding_is_read_and_said(tmp_path: Path) -> None:
    rows, problems = read(tmp_path, "id,group\nMüller,AD\n".encode("latin-1"))
    assert rows == [{"id": "Müller", "group": "AD"}]
    assert problems == ["is not UTF-8, read as Latin-1"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_list_of_exclusions_may_have_a_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "list.txt").write_bytes("sub-1\r\nsub-2\tx\r\n\r\n".encode(encoding))
    found: list[tuple[str, ...]] = []
    command = click.command()(slicing_options(lambda **options: found.append(options["exclude"])))
    outcome = CliRunner().invoke(command, ["--exclude", str(tmp_path / "list.txt")])
    assert (outcome.exit_code, found) == (0, [("sub-1", "sub-2")])


@pytest.mark.parametrize(
    "content",
    [
        'id,note,age\na,"one\ntwo, three",70\nb,-,71\n',
        'id,age,note\na,70,"one\ntwo, three"\nb,71,-\n',
        'id,age,note\na,70,"one, two\n\nthree, four, five, six\n"\nb,71,"x\ny,"\n',
    ],
)
def test_a_quoted_cell_may_have_several_lines(tmp_path: Path, content: str) -> None:
    rows, problems = read(tmp_path, content)
    assert [(row["id"], row["age"]) for row in rows] == [("a", "70"), ("b", "71")]
    assert problems == []
