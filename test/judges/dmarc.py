"""Reads TXT records as checkdmarc does.

Case: the text of a record. Says: `isDmarc`, whether it is a DMARC record at all; then its `policy` and those of subdomains,
or the `error` for which checkdmarc refuses it.
"""
from checkdmarc import dmarc

# It would look up whether others take reports, in the DNS.
dmarc._parse_report_uris = lambda _tag, value, *_args, **_options: value


def judge(text):
    if not dmarc._is_dmarc_record(text):
        return {"isDmarc": False}
    try:
        tags = dmarc.parse_dmarc_record(text, "mail.acme.com")["tags"]
    except dmarc.DMARCError as error:
        return {"isDmarc": True, "error": type(error).__name__}
    return {"isDmarc": True, "policy": tags["p"]["value"], "subdomains": tags["sp"]["value"]}
