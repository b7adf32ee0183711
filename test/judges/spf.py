"""Evaluates SPF as pyspf does, in a zone that is given.

Case: `domain`; `ips`, of senders; `zone`, by name the values of each type; `voids`, look-ups that may find nothing.
Says: the result (RFC 7208 section 2.6) for each of the ips.
"""
import spf


def lookup(zone):
    def answer(name, qtype, *_):
        values = zone.get(name.lower().rstrip("."), {}).get(qtype, [])
        if qtype == "TXT":
            return [((name, qtype), [text.encode("latin-1")]) for text in values]
        return [((name, qtype), value) for value in values]

    return answer


def judge(case):
    spf.DNSLookup = lookup(case["zone"])
    spf.MAX_VOID_LOOKUPS = case["voids"]
    sender = "ada@" + case["domain"]
    return [spf.check2(i=ip, s=sender, h=case["domain"], querytime=0)[0] for ip in case["ips"]]
