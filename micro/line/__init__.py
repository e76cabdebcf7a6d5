"""The production line: images in, exactly one result each, whatever happens in between."""

LEDGER_NAME = "ledger.sqlite"
LABELS_NAME = "labels"
CORRECTIONS_NAME = "corrections"
RECORD_NAME = "run.json"
REPORT_NAME = "report.html"
