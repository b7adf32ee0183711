"""Writes and reads DNS messages as dnspython does. Octets of text are one character each; messages are in Base64.

Cases, and what it says of them:
- `query`, a message: what it asks, or the `error`.
- `reply`, what a message holds: the message.
- `message`: the answer to its own question, or the `error`.
"""
import base64

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.TXT
import dns.rrset

IN = dns.rdataclass.IN


def octets(text):
    return text.encode("latin-1")


def name_of(labels):
    return dns.name.Name([octets(label) for label in labels] + [b""])


def written(name):
    """A name as ours writes it: in lower case, without the last dot."""

    def character(octet):
        if octet in b".\\":
            return "\\" + chr(octet)
        return chr(octet) if 0x21 <= octet <= 0x7E else "\\%03d" % octet

    return ".".join("".join(map(character, label.lower())) for label in name.labels[:-1])


def query_of(message):
    [question] = message.question
    return {
        "id": message.id,
        "flags": dns.flags.to_text(message.flags),
        "name": written(question.name),
        "type": dns.rdatatype.to_text(question.rdtype),
        "edns": [message.edns, message.payload, message.ednsflags, len(message.options)],
        "rrs": sum(map(len, (message.answer, message.authority, message.additional))),
    }


def rdata_of(type, value):
    if type == "TXT":
        return dns.rdtypes.ANY.TXT.TXT(IN, dns.rdatatype.TXT, [octets(string) for string in value])
    if type in ("CNAME", "NS"):
        return dns.rdata.from_text(IN, type, name_of(value).to_text())
    if type == "MX":
        return dns.rdata.from_text(IN, type, "%d %s" % (value["preference"], name_of(value["exchange"]).to_text()))
    if type == "SOA":
        primary = name_of(value["primary"]).to_text()
        return dns.rdata.from_text(IN, type, "%s hostmaster.%s 1 2 3 4 %d" % (primary, primary, value["minimum"]))
    return dns.rdata.from_text(IN, type, value)


def rrsets(records):
    """One for each record: in a set, two that are the same would be one already."""
    sets = []
    for record in records:
        for value in record["values"]:
            rrset = dns.rrset.RRset(name_of(record["name"]), IN, dns.rdatatype.from_text(record["type"]))
            rrset.add(rdata_of(record["type"], value), record["ttl"])
            sets.append(rrset)
    return sets


def message_of(reply):
    message = dns.message.QueryMessage(id=0)
    message.flags = dns.flags.QR | dns.flags.RD | dns.flags.RA | (dns.flags.AD if reply["authenticated"] else 0)
    message.set_rcode(dns.rcode.from_text(reply["rcode"]))
    message.question = [dns.rrset.RRset(name_of(reply["name"]), IN, dns.rdatatype.from_text(reply["type"]))]
    message.answer = rrsets(reply["answer"])
    message.authority = rrsets(reply["authority"])
    if reply["errors"] is not None:
        options = [dns.edns.EDEOption(error["code"], error["text"]) for error in reply["errors"]]
        message.use_edns(0, payload=1232, options=options)
    return base64.b64encode(message.to_wire(max_size=65535)).decode()


def read(rdata):
    match rdata.rdtype:
        case dns.rdatatype.TXT:
            return b"".join(rdata.strings).decode("latin-1")
        case dns.rdatatype.MX:
            return {"preference": rdata.preference, "exchange": written(rdata.exchange)}
        case dns.rdatatype.CNAME | dns.rdatatype.NS:
            return written(rdata.target)
        case dns.rdatatype.SOA:
            return {"primary": written(rdata.mname), "minimum": rdata.minimum}
        case dns.rdatatype.AAAA:
            wire = rdata.to_wire().hex()
            return ":".join(wire[i : i + 4] for i in range(0, 32, 4))
    return rdata.to_text()


def answer_of(message):
    found = message.resolve_chaining()
    return {
        "rcode": dns.rcode.to_text(message.rcode()),
        "records": [read(rdata) for rdata in found.answer or []],
        "aliases": [written(rrset[0].target) for rrset in found.cnames],
        "ttl": found.minimum_ttl,
        "authenticated": bool(message.flags & dns.flags.AD),
        "errors": [
            {"code": int(option.code), "text": option.text or ""}
            for option in message.options
            if isinstance(option, dns.edns.EDEOption)
        ],
    }


def judge(case):
    if "reply" in case:
        return message_of(case["reply"])
    try:
        if "query" in case:
            return query_of(dns.message.from_wire(base64.b64decode(case["query"])))
        return answer_of(dns.message.from_wire(base64.b64decode(case["message"])))
    except Exception as error:  # Of many kinds: whatever it raises is its word that this is no message.
        return {"error": "%s: %s" % (type(error).__name__, error)}
