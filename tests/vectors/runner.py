"""Runs every case of ``protocol/vectors`` against surge_wire, under MicroPython or CPython: one program for
both.

    runner.py FOLDER [FILE...]

Prints one line per failed case and a last line ``cases N failures M``; exits 1 where M is not 0.
It stays within MicroPython, so it uses no test framework.
"""

import json
import struct
import sys
from binascii import hexlify, unhexlify

from surge_wire import (
    ack,
    batch,
    cbor,
    cbor_pure,
    command,
    cose,
    hkdf,
    merkle,
    receipt,
    report,
    senml,
    settlement,
    submission,
    topics,
)
from surge_wire.errors import DecodeError

try:
    from surge_wire import ed25519
except ImportError:  # MicroPython has no Ed25519: signatures are checked on CPython alone
    ed25519 = None


class Failure(Exception):
    pass


def check(condition, what):
    if not condition:
        raise Failure(what)


def refuses(what, function, *arguments):
    try:
        function(*arguments)
    except DecodeError:
        return
    raise Failure(what + " was not refused")


def untag(value):
    if isinstance(value, dict):
        if "bytes" in value:
            return unhexlify(value["bytes"])
        if "float64" in value:
            return struct.unpack(">d", unhexlify(value["float64"]))[0]
        if "utf8" in value:
            return unhexlify(value["utf8"]).decode()
        return {pair[0]: untag(pair[1]) for pair in value["map"]}
    if isinstance(value, list):
        return [untag(item) for item in value]
    return value


def same(a, b):
    """Equal in value and in type: 1, 1.0 and True are three things."""
    if type(a) is not type(b):
        return False
    if isinstance(a, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))  # noqa: B905
    if isinstance(a, dict):
        return len(a) == len(b) and all(key in b and same(a[key], b[key]) for key in a)
    if isinstance(a, float) and a == 0.0:
        return str(a) == str(b)
    return a == b


def run_cbor(case):
    data = unhexlify(case["cbor"])
    for decode in (cbor.decode, cbor_pure.decode):
        if not case["valid"]:
            refuses("decode", decode, data)
            continue
        value = untag(case["value"])
        check(same(decode(data), value), "decoded value")
        if case["deterministic"]:
            check(cbor.encode(value) == data, "encoded bytes")
        else:
            check(cbor.encode(value) != data, "a longer form was made")


def run_hkdf(case):
    if case["function"] == "hmac":
        out = hkdf.hmac_sha256(unhexlify(case["key"]), unhexlify(case["message"]))
    elif case["function"] == "hkdf":
        size = len(case["output"]) // 2
        out = hkdf.hkdf_sha256(
            unhexlify(case["secret"]), unhexlify(case["salt"]), unhexlify(case["info"]), size
        )
    else:
        check(hkdf.mqtt_password(unhexlify(case["secret"])) == case["output"], "password")
        return
    check(hexlify(out).decode() == case["output"], "output")


def run_cose(case):
    envelope = cose.parse(case["tag"], unhexlify(case["envelope"]))
    check(envelope.payload == unhexlify(case["payload"]), "payload")
    signed = cose.to_be_signed(case["tag"], envelope.protected_bytes, envelope.payload)
    check(signed == unhexlify(case["signed"]), "signed bytes")
    key = unhexlify(case["key"])
    if case["tag"] == cose.TAG_MAC0:
        check(hkdf.hmac_sha256(key, signed) == envelope.proof, "MAC")
    elif ed25519:
        check(ed25519.verifier(key)(signed, envelope.proof), "signature")
        check(not ed25519.verifier(key)(signed + b"x", envelope.proof), "signature of other bytes")


def run_ed25519(case):
    if not ed25519:
        return
    seed = unhexlify(case["seed"])
    message = unhexlify(case["message"])
    signature = unhexlify(case["signature"])
    check(ed25519.public_key(seed) == unhexlify(case["public_key"]), "public key")
    check(ed25519.signer(seed)(message) == signature, "signature")
    check(ed25519.verifier(unhexlify(case["public_key"]))(message, signature), "verification")
    check(not ed25519.verifier(unhexlify(case["public_key"]))(message + b"x", signature), "other message")
    check(not ed25519.verifier(unhexlify(case["public_key"]))(message, signature[:-1]), "short signature")


def run_senml(case):
    pack = cbor.decode(unhexlify(case["pack"]))
    if not case["valid"]:
        refuses("resolve_pack", senml.resolve_pack, pack)
        return
    records = senml.resolve_pack(pack)
    check(len(records) == len(case["records"]), "number of records")
    for record, wanted in zip(records, untag(case["records"])):  # noqa: B905
        found = [record.name, record.unit, record.value, record.sum, record.time_s, record.update_time_s]
        check(same(found, wanted), "record " + str(found))


def run_report(case):
    key = hkdf.derive_key(unhexlify(case["secret"]), hkdf.INFO_REPORT)
    envelope = unhexlify(case["envelope"])
    if not case["valid"]:
        if case["stage"] == "open":
            refuses("open_report", report.open_report, envelope)
            return
        opened = report.open_report(envelope)[1]
        if case["stage"] == "mac":
            check(not cose.mac_valid(opened, key), "MAC was not refused")
            return
        check(cose.mac_valid(opened, key), "MAC")
        if case["stage"] == "decode":
            refuses("decode_report", report.decode_report, opened.payload)
        else:
            refuses("records", report.decode_report(opened.payload).records)
        return
    device_id, opened = report.open_report(envelope)
    check(device_id == case["device_id"], "device id")
    check(opened.payload == unhexlify(case["payload"]), "payload")
    check(opened.signed == unhexlify(case["maced"]), "MACed bytes")
    check(cose.mac_valid(opened, key), "MAC")
    # The generic COSE reader has to see the same envelope.
    parsed = cose.parse(cose.TAG_MAC0, envelope)
    check(parsed.payload == opened.payload and parsed.proof == opened.proof, "generic reading")
    check(
        cose.to_be_signed(cose.TAG_MAC0, parsed.protected_bytes, parsed.payload) == opened.signed,
        "MAC_structure",
    )
    wanted = case["report"]
    found = report.decode_report(opened.payload)
    for name in ("boot", "seq", "uptime_ms", "time_ms", "previous_end", "command_counter"):
        check(same(getattr(found, name), wanted[name]), name)
    check(same(found.pack, untag(wanted["pack"])), "pack")
    usage = found.usage and [
        found.usage.reports,
        found.usage.samples,
        found.usage.bytes,
        found.usage.dropped,
        found.usage.fuel,
        found.usage.energy_uj,
    ]
    check(same(usage, wanted["usage"]), "usage")
    made = report.Report(
        wanted["boot"],
        wanted["seq"],
        wanted["uptime_ms"],
        wanted["time_ms"],
        untag(wanted["pack"]),
        report.Usage(*wanted["usage"]) if wanted["usage"] else None,
        wanted["previous_end"],
        wanted["command_counter"],
    )
    check(report.seal_report(device_id, key, made) == envelope, "sealed envelope")


def run_ack(case):
    data = unhexlify(case["ack"])
    if not case["valid"]:
        refuses("decode_ack", ack.decode_ack, data)
        return
    found = ack.decode_ack(data)
    ranges = [tuple(pair) for pair in case["ranges"]]
    check(found.boot == case["boot"] and found.time_ms == case["time_ms"], "boot, time")
    check(found.ranges == ranges, "ranges")
    check(ack.encode_ack(ack.Ack(case["boot"], ranges, case["time_ms"])) == data, "encoded bytes")


def run_command(case):
    key = hkdf.derive_key(unhexlify(case["secret"]), hkdf.INFO_COMMAND)
    envelope = unhexlify(case["envelope"])
    if not case["valid"]:
        refuses("open_command", command.open_command, envelope, case["device_id"], key)
        return
    found = command.open_command(envelope, case["device_id"], key)
    arguments = untag(case["arguments"])
    check(found.counter == case["counter"] and found.operation == case["operation"], "counter, operation")
    check(found.arguments == arguments and found.expires_ms == case["expires_ms"], "arguments, expiry")
    made = command.Command(case["counter"], case["operation"], arguments, case["expires_ms"])
    check(command.seal_command(case["device_id"], key, made) == envelope, "sealed envelope")


def run_batch(case):
    envelope = unhexlify(case["envelope"])
    if not case["valid"] and case["stage"] == "open":
        refuses("open_batch", batch.open_batch, envelope)
        return
    gateway_id, opened = batch.open_batch(envelope)
    if not case["valid"]:
        if case["stage"] == "signature":
            if ed25519:
                verify = ed25519.verifier(unhexlify(case["public_key"]))
                check(not verify(opened.signed, opened.proof), "signature was not refused")
        else:
            refuses("decode_batch", batch.decode_batch, opened.payload)
        return
    check(gateway_id == case["gateway_id"], "gateway id")
    check(opened.payload == unhexlify(case["payload"]), "payload")
    check(opened.signed == unhexlify(case["signed"]), "signed bytes")
    check(hexlify(batch.chain_hash(opened.payload)).decode() == case["chain_hash"], "chain hash")
    check(batch.encode_batch(batch.decode_batch(opened.payload)) == opened.payload, "encoded again")
    if ed25519:
        check(ed25519.verifier(unhexlify(case["public_key"]))(opened.signed, opened.proof), "signature")
        sealed = batch.seal_batch(gateway_id, ed25519.signer(unhexlify(case["seed"])), opened.payload)
        check(sealed == envelope, "sealed envelope")


def run_merkle(case):
    if case["kind"] == "root":
        leaves = [merkle.leaf_hash(unhexlify(leaf)) for leaf in case["leaves"]]

        def node(level, index):
            if level == 0:
                return leaves[index]
            return merkle.node_hash(node(level - 1, 2 * index), node(level - 1, 2 * index + 1))

        check(hexlify(merkle.subtree_root(node, 0, len(leaves))).decode() == case["root"], "root")
        return
    path = [unhexlify(item) for item in case["path"]]
    if case["kind"] == "inclusion":
        leaf = merkle.leaf_hash(unhexlify(case["leaf"]))
        try:
            root = merkle.root_from_inclusion(leaf, case["index"], case["size"], path)
            check((hexlify(root).decode() == case["root"]) is case["valid"], "root")
        except DecodeError:
            check(not case["valid"], "a valid proof was refused")
        return
    root_1 = unhexlify(case["root_1"])
    root_2 = unhexlify(case["root_2"])
    found = merkle.consistency_valid(case["size_1"], root_1, case["size_2"], root_2, path)
    check(found is case["valid"], "verdict")


def run_log(case):
    if ed25519 and "log_public_key" in case:
        verify = ed25519.verifier(unhexlify(case["log_public_key"]))
    elif "log_public_key" in case:
        return  # every case with a key turns on a signature
    kind = case["kind"]
    if kind == "inclusion":
        arguments = (unhexlify(case["receipt"]), unhexlify(case["entry"]), verify)
        if not case["valid"]:
            refuses("receipt", receipt.verify_inclusion_receipt, *arguments)
            return
        index, size, root = receipt.verify_inclusion_receipt(*arguments)
        check(
            (index, size, hexlify(root).decode()) == (case["index"], case["size"], case["root"]),
            "index, size, root",
        )
    elif kind == "consistency":
        arguments = (unhexlify(case["receipt"]), unhexlify(case["root_1"]), unhexlify(case["root_2"]), verify)
        if not case["valid"]:
            refuses("receipt", receipt.verify_consistency_receipt, *arguments)
            return
        check(receipt.verify_consistency_receipt(*arguments) == (2, 3), "sizes")
    elif kind == "head":
        if not case["valid"]:
            refuses("head", receipt.open_tree_head, unhexlify(case["head"]), verify)
            return
        head = receipt.open_tree_head(unhexlify(case["head"]), verify)
        check((head.tree_size, head.time_ms) == (case["size"], case["time_ms"]), "size, time")
        check(hexlify(head.root).decode() == case["root"], "root")
    elif kind == "settlement":
        data = unhexlify(case["settlement"])
        if not case["valid"]:
            refuses("settlement", settlement.decode_settlement, data)
            return
        found = settlement.decode_settlement(data)
        check(found.verdicts() == case["verdicts"], "verdicts")
        check(found.credits == [tuple(pair) for pair in case["credits"]], "credits")
        check(settlement.encode_settlement(found) == data, "encoded again")
    else:
        arguments = (
            unhexlify(case["answer"]),
            unhexlify(case["batch_hash"]),
            case["gateway_id"],
            case["seq"],
        )
        if not case["valid"]:
            refuses("answer", submission.verify_submission, *arguments, case["count"], verify)
            return
        found, index, _size, _root = submission.verify_submission(*arguments, case["count"], verify)
        check(index == 1 and found.report_count == case["count"], "index, count")


def run_topics(case):
    if not case["valid"]:
        refuses("topic", topics.parse_topic, case["topic"])
        return
    device_id, channel = topics.parse_topic(case["topic"])
    check(device_id == case["device_id"], "device id")
    check(topics.topic(device_id, channel) == case["topic"], "topic")


RUNNERS = {
    "cbor": run_cbor,
    "hkdf": run_hkdf,
    "cose": run_cose,
    "ed25519": run_ed25519,
    "senml": run_senml,
    "report": run_report,
    "ack": run_ack,
    "command": run_command,
    "batch": run_batch,
    "merkle": run_merkle,
    "log": run_log,
    "topics": run_topics,
}


def run_file(folder, name):
    """(cases, failures as lines) of one vector file."""
    with open(folder + "/" + name + ".json") as file:
        cases = json.load(file)["cases"]
    failures = []
    for case in cases:
        try:
            RUNNERS[name](case)
        except Failure as failure:
            failures.append(name + ": " + case["name"] + ": " + str(failure))
        except Exception as error:  # anything but a DecodeError where one was due is a failure of its own
            failures.append(name + ": " + case["name"] + ": " + type(error).__name__ + " " + str(error))
    return len(cases), failures


def main(arguments):
    total = 0
    failures = []
    for name in arguments[1:] or sorted(RUNNERS):
        count, lines = run_file(arguments[0], name)
        total += count
        failures += lines
    for line in failures:
        print("FAILED", line)
    print("cases", total, "failures", len(failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
