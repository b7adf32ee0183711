"""Runs a judge: reads a line of JSON for each case, and writes a line of JSON with what `judge(case)` says.

    lines.py JUDGE.py
"""
import json
import logging
import runpy
import sys

logging.disable(logging.CRITICAL)
judge = runpy.run_path(sys.argv[1])["judge"]
for line in sys.stdin:
    print(json.dumps(judge(json.loads(line))))
