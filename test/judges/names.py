"""Reads domain names as `idna` does: IDNA2008 (RFC 5891) after the mapping of UTS 46.

Case: a name, as somebody types it. Says: its `ascii` form and its `unicode` form, or the `error`.
"""
import idna


def judge(name):
    try:
        ascii = idna.encode(name, uts46=True, std3_rules=True, transitional=False).decode()
        return {"ascii": ascii, "unicode": idna.decode(ascii)}
    except UnicodeError as error:
        return {"error": "%s: %s" % (type(error).__name__, error)}
