"""sqlite_insert.py DATABASE FILE: every line of FILE as a row, with nothing around it."""

import sqlite3
import sys

database = sqlite3.connect(sys.argv[1])
database.execute("PRAGMA journal_mode=WAL")
database.execute("CREATE TABLE line (number INTEGER PRIMARY KEY, text TEXT NOT NULL)")
with database, open(sys.argv[2], encoding="utf-8") as lines:
    database.executemany("INSERT INTO line (text) VALUES (?)", ((line[:-1],) for line in lines))
database.close()
