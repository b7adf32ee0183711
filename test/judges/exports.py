"""Reads exported records as the tools do that they are made for.

Case: `format`, `zone`, and `texts`, which stand in one directory or zone. Says: the records, each with the name, type, TTL and
values that the tool has understood (values as the API shows them), or the `error` that the tool stops with.
"""
import json
import tempfile
from pathlib import Path

import botocore.session
import dns.rdata
import hcl2
from botocore.validate import ParamValidator
from octodns.provider.yaml import YamlProvider
from octodns.zone import Zone

changes = botocore.session.get_session().get_service_model("route53").operation_model("ChangeResourceRecordSets")


def shown(type, text):
    """A value of a master file as the API shows it."""
    rdata = dns.rdata.from_text("IN", type, text)
    if type == "TXT":
        return b"".join(rdata.strings).decode("latin-1")
    return rdata.to_text().removesuffix(".")


def route53(_zone, texts):
    records = []
    for text in texts:
        batch = json.loads(text)
        report = ParamValidator().validate({"HostedZoneId": "Z1", "ChangeBatch": batch}, changes.input_shape)
        if report.has_errors():
            raise ValueError(report.generate_report())
        for change in batch["Changes"]:
            rrset = change["ResourceRecordSet"]
            values = [shown(rrset["Type"], record["Value"]) for record in rrset["ResourceRecords"]]
            records.append((rrset["Name"].removesuffix("."), rrset["Type"], rrset["TTL"], values))
    return records


def octodns(name, texts):
    with tempfile.TemporaryDirectory() as directory:
        [text] = texts
        Path(directory, name + ".yaml").write_text(text)
        zone = Zone(name + ".", [])
        YamlProvider("judge", directory, escaped_semicolons=True).populate(zone)
    records = []
    for record in zone.records:
        values = record.values if hasattr(record, "values") else [record.value]
        if record._type == "TXT":
            values = [value.replace("\\;", ";") for value in values]
        else:
            values = [shown(record._type, value.rdata_text) for value in values]
        records.append((record.fqdn.removesuffix("."), record._type, record.ttl, values))
    return records


def labelled(block, depth):
    """The body below the labels of a block of HCL, with its labels."""
    if depth == 0:
        return [([], block)]
    return [
        ([label.strip('"'), *labels], body)
        for label, inner in block.items()
        if not label.startswith("__")
        for labels, body in labelled(inner, depth - 1)
    ]


def terraform(_zone, texts):
    files = [hcl2.loads(text) for text in texts]
    variables = [labels for file in files for block in file["variable"] for labels, _ in labelled(block, 1)]
    resources = [found for file in files for block in file["resource"] for found in labelled(block, 2)]
    for addresses in (variables, [labels for labels, _ in resources]):
        twice = [address for address in addresses if addresses.count(address) > 1]
        if twice:
            raise ValueError("declared twice: " + ".".join(twice[0]))
    records = []
    for _, body in resources:
        reference = str(body["zone_id"]).strip("${}").removeprefix("var.")
        if [reference] not in variables:
            raise ValueError("no variable " + reference)
        plain = lambda value: json.loads(value) if value.startswith('"') else value
        type = plain(body["type"])
        values = [plain(value) for value in body["records"]]
        # The provider writes the outer quotes of a TXT value.
        values = [shown(type, '"%s"' % value if type == "TXT" else value) for value in values]
        records.append((plain(body["name"]), type, body["ttl"], values))
    return records


def judge(case):
    tools = {"route53": route53, "octodns": octodns, "terraform": terraform}
    try:
        records = tools[case["format"]](case["zone"], case["texts"])
        return {"records": sorted(records)}
    except Exception as error:  # Of many kinds: whatever the tool raises, it would stop with.
        return {"error": "%s: %s" % (type(error).__name__, error)}
