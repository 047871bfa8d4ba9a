"""What other engines read of an archive's Delta tables: delta-rs, DuckDB's delta reader, and DuckDB over the Parquet.

    delta.py ARCHIVE [DUCKDB DELTA_EXTENSION]

Prints, for each topic, what each engine sums up; they must agree to the last digit.
"""

import glob
import json
import os
import subprocess
import sys

import deltalake
import duckdb
import pyarrow.compute

# Each topic's sums: rows, offsets, bytes of records, and amounts where there are any.
SUMS = "count(*), sum(\"offset\"), sum(octet_length(value)), count(DISTINCT producer)"


def by_delta_rs(root, amounts):
    table = deltalake.DeltaTable(root)
    rows = table.to_pyarrow_table()
    sums = [
        rows.num_rows,
        pyarrow.compute.sum(rows["offset"]).as_py(),
        pyarrow.compute.sum(pyarrow.compute.binary_length(rows["value"])).as_py(),
        pyarrow.compute.count_distinct(rows["producer"]).as_py(),
    ]
    if amounts:
        amount = pyarrow.compute.sum(rows["amount"]).as_py()
        sums.append(None if amount is None else str(amount))
    names = [field.name for field in table.schema().fields]
    return sums, names, table.version()


def by_duckdb(source, amounts):
    columns = SUMS + (", CAST(sum(amount) AS VARCHAR)" if amounts else "")
    return f"SELECT {columns} FROM {source}"


def number(cell):
    """Whole numbers as such, whatever an engine writes them as; amounts as their text; nothing as nothing."""
    if cell is None or (isinstance(cell, str) and not cell.isdigit()):
        return cell
    return int(cell)


def main(archive, cli=None, extension=None):
    answer = {}
    for root in sorted(glob.glob(f"{archive}/segments/*/*/")):
        topic = os.path.basename(root.rstrip("/"))
        parquet = f"read_parquet('{root}[0-9]*/*.parquet', union_by_name = true)"
        columns = [row[0] for row in duckdb.sql(f"DESCRIBE SELECT * FROM {parquet}").fetchall()]
        amounts = "amount" in columns
        sums, names, version = by_delta_rs(root, amounts)
        plain = [number(it) for it in duckdb.sql(by_duckdb(parquet, amounts)).fetchone()]
        found = {"delta_rs": sums, "parquet": plain, "version": version, "columns": names == columns}
        if cli:
            statement = f"LOAD '{extension}'; {by_duckdb(f'delta_scan({root!r})', amounts)}"
            run = subprocess.run([cli, "-unsigned", "-json", "-c", statement], capture_output=True, text=True, check=True)
            row = json.loads(run.stdout)[0].values()
            found["delta_scan"] = [number(it) for it in row]
        answer[topic] = found
    print(json.dumps(answer))


main(*sys.argv[1:])
