"""The third book: what a trace's served requests cost, summed by DuckDB from the CSV alone.

usage: books.py TRACE.csv SERVED.jsonl PRICES.json

SERVED.jsonl holds what clients saw, a line each: {"row": 12, "team": "red", "model": "alpha-large"}, where `row`
counts the trace's data rows from 0 and `model` is the model named in the answer that began to arrive.
PRICES.json maps each such model to pico-dollars per million input and output tokens, as integers.

Prints one JSON line per team and model: {"team", "model", "requests", "pico"}, `pico` as a decimal string.
Integer arithmetic throughout: HUGEINT, half up once per line item.
"""

import json
import sys

import duckdb


def main(trace: str, served: str, prices: str) -> None:
    database = duckdb.connect()
    database.execute(
        "CREATE TABLE trace AS SELECT row_number() OVER () - 1 AS row, ContextTokens AS input, GeneratedTokens AS output "
        "FROM read_csv(?, header = true, parallel = false)",
        [trace],
    )
    database.execute("CREATE TABLE price (model VARCHAR, input HUGEINT, output HUGEINT)")
    with open(prices, encoding="utf-8") as file:
        for model, (input_price, output_price) in json.load(file).items():
            database.execute("INSERT INTO price VALUES (?, ?, ?)", [model, int(input_price), int(output_price)])
    database.execute(
        "CREATE TABLE served AS SELECT * FROM read_json(?, format = 'newline_delimited', "
        "columns = {row: 'BIGINT', team: 'VARCHAR', model: 'VARCHAR'})",
        [served],
    )
    unknown = database.execute(
        "SELECT count(*) FROM served LEFT JOIN trace USING (row) LEFT JOIN price USING (model) "
        "WHERE trace.row IS NULL OR price.model IS NULL"
    ).fetchone()[0]
    if unknown:
        sys.exit(f"{unknown} served requests are of no row or no priced model")
    rows = database.execute(
        """
        SELECT team, served.model, count(*), CAST(sum(
            (trace.input::HUGEINT * price.input + 500000) // 1000000
            + (trace.output::HUGEINT * price.output + 500000) // 1000000) AS VARCHAR)
        FROM served JOIN trace USING (row) JOIN price ON price.model = served.model
        GROUP BY ALL ORDER BY ALL
        """
    ).fetchall()
    for team, model, requests, pico in rows:
        print(json.dumps({"team": team, "model": model, "requests": requests, "pico": pico}))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
