"""Runs statements of SQL (the argument, separated by semicolons) in Spark, on this machine alone.

Prints the rows of the last one as JSON, with Spark's version.
"""

import json
import sys

from pyspark.sql import SparkSession


def main(statements: str) -> None:
    spark = (
        SparkSession.builder.master("local[1]")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "1")
        .getOrCreate()
    )
    rows = []
    for statement in filter(None, map(str.strip, statements.split(";"))):
        rows = [list(row) for row in spark.sql(statement).collect()]
    print(json.dumps({"version": spark.version, "rows": rows}))
    spark.stop()


main(sys.argv[1])
