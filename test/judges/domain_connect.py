"""Applies the template of Domain Connect as a DNS provider does that uses domainconnectzone.

Case: `template`, the file; `url`, the link; `keys`, the TXT records of the key; and `zone`, the records that are there, each with
`type`, `name` (relative to the zone, `@` at its top), `data`, and `priority` of an MX. Says: whether the link is `signed` by the
key, and all records of the zone afterwards.
"""
import json
import types
from urllib.parse import unquote, urlsplit

import dns.resolver
from domainconnectzone import DomainConnect, get_publickey, qs2dict, qsfilter, verify_sig


def judge(case):
    with open(case["template"]) as file:
        connect = DomainConnect(template=json.load(file))
    query = urlsplit(case["url"]).query
    fields = qs2dict(query)
    values = {name: unquote(value) for name, value in fields.items()}
    # The library asks the DNS for the key.
    dns.resolver.query = lambda name, type: [types.SimpleNamespace(strings=[text.encode()]) for text in case["keys"]]
    signed = verify_sig(
        get_publickey(values["key"] + "." + connect.data["syncPubKeyDomain"]),
        values["sig"],
        qsfilter(query, ["sig", "key"]),
    )
    zone = [{"ttl": 300, **record} for record in case["zone"]]
    _, _, records = connect.apply_template(
        zone, values["domain"], values.get("host"), values, values["groupId"].split(","), ignore_signature=True
    )
    return {"signed": signed, "zone": records}
