"""What MQTT 3.1.1 allows as a string, a topic name and a topic filter.

Place in the flow: the encoders check what we send, the parser what the broker sent. Pure. Knows nothing of
Surge's own topics (that is ``surge_wire.topics``). Rule: both interpreters give the same answer for the
same bytes.
"""


def utf8_valid(data: bytes) -> bool:
    """1.5.3: well-formed UTF-8 without surrogates. MicroPython's own check lets surrogates and overlong
    forms pass.
    """
    need, low, high = 0, 0x80, 0xBF
    for byte in data:
        if need:
            if not low <= byte <= high:
                return False
            need, low, high = need - 1, 0x80, 0xBF
        elif byte < 0x80:
            continue
        elif 0xC2 <= byte <= 0xDF:
            need = 1
        elif 0xE0 <= byte <= 0xEF:
            need, low, high = 2, (0xA0 if byte == 0xE0 else 0x80), (0x9F if byte == 0xED else 0xBF)
        elif 0xF0 <= byte <= 0xF4:
            need, low, high = 3, (0x90 if byte == 0xF0 else 0x80), (0x8F if byte == 0xF4 else 0xBF)
        else:
            return False
    return need == 0


def text_fault(data: bytes) -> str:
    """What is wrong with a string by 1.5.3; empty when nothing is."""
    return "has a NUL" if b"\0" in data else "" if utf8_valid(data) else "is not UTF-8"


def topic_fault(topic: bytes) -> str:
    """What is wrong with a topic name by 4.7.1 and 4.7.3; empty when nothing is."""
    if not topic:
        return "topic is empty"
    if b"+" in topic or b"#" in topic:
        return "topic has a wildcard"
    fault = text_fault(topic)
    return "topic " + fault if fault else ""


def filter_fault(topic: bytes) -> str:
    """What is wrong with a topic filter by 4.7.1 and 4.7.3; empty when nothing is."""
    if not topic:
        return "filter is empty"
    levels = topic.split(b"/")
    for index, level in enumerate(levels):
        if b"+" in level and level != b"+" or b"#" in level and (level != b"#" or index != len(levels) - 1):
            return "filter has a wildcard that is not a whole level, or # before the end"
    fault = text_fault(topic)
    return "filter " + fault if fault else ""
