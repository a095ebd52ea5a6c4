#!/usr/bin/env bash
# Fails if a text that people read contains a phrase listed in scripts/prose.txt or a word listed in scripts/vocabulary.txt.
# It checks the documentation, golden files (help, OpenAPI, problems), templates of the console, and strings in Rust code
# (errors, log lines, help). Names in backticks are skipped. Generated sections of the documentation are also skipped,
# because their sources are checked.
set -euo pipefail
cd "$(dirname "$0")/.."

exec python3 - "$@" <<'PYTHON'
import os, re, subprocess, sys

DOCUMENTS = ["*.md", "control-plane/golden/*", "golden/*", "control-plane/console/templates/*.html"]
CODE = ["src/*.rs", "policy/src/*.rs", "control-plane/*/src/*.rs"]
# Comments, raw strings, characters and strings, in this order, so that a quotation mark in one does not start another.
TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|\br(#*)"(?P<raw>.*?)"\1|\'(?:\\.|[^\'\\])\'|"(?P<text>(?:[^"\\]|\\.)*)"', re.S)


def rules():
    for path in ["scripts/prose.txt", "scripts/vocabulary.txt"]:
        for line in open(path, encoding="utf8"):
            if line.strip() and not line.startswith("#"):
                expression, instead, exempt = (line.rstrip("\n").split("\t") + [""])[:3]
                yield re.compile(expression), instead, re.compile(exempt) if exempt else None


def files(patterns):
    found = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "--", *patterns], capture_output=True, text=True, check=True)
    return sorted(path for path in set(found.stdout.split("\n")) if os.path.isfile(path))


def document(text, path):
    if path.endswith(".html"):
        text = re.sub(r"\{[%{#].*?[%}#]\}", lambda code: "\n" * code[0].count("\n"), text, flags=re.S)
    text = re.sub(r"<!-- generated: .*?<!-- end -->", lambda section: "\n" * section[0].count("\n"), text, flags=re.S)
    is_code = False
    for number, line in enumerate(text.splitlines(), 1):
        is_code ^= path.endswith(".md") and line.lstrip().startswith("```")
        yield number, line if is_code else re.sub(r"`[^`]*`", "`", line)


def strings(text, path):
    """Yields the strings that contain several words, except those in tests."""
    if re.search(r"/(tests|[a-z_]*_tests|testing|fixtures|contract)(/|\.rs$)", path):
        return
    text = re.split(r"\n#\[cfg\(test\)\]\nmod \w+ \{", text)[0]
    for token in TOKEN.finditer(text):
        found = token["text"] or token["raw"] or ""
        if " " in found:
            number = text.count("\n", 0, token.start()) + 1
            yield number, re.sub(r"`[^`]*`", "`", re.sub(r"\\\s+", "", found))


def lines():
    for kind, patterns in [(document, DOCUMENTS), (strings, CODE)]:
        for path in files(patterns):
            for number, line in kind(open(path, encoding="utf8").read(), path):
                yield path, number, line


known, hits = list(rules()), 0
for path, number, line in lines():
    for expression, instead, exempt in known:
        found = expression.search(line)
        if found and not (exempt and exempt.search(line)):
            hits += 1
            print(f"{path}:{number}: \"{found[0]}\" ({instead}): {' '.join(line.split())[:140]}")
if hits:
    print(f"{hits} phrases to replace")
sys.exit(hits > 0)
PYTHON
