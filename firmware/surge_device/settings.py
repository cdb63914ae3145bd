"""What the owner of a device may choose, from settings.json and secrets.json in its data directory.

Read once at start; nothing changes it afterwards. ``TABLE`` is the one list of keys, defaults and ranges; a
key that is not in it is an error that names the nearest one. Passwords live in secrets.json alone, and in
no repr or error. Does not connect to anything and doesn't check that drivers, files or hosts exist.
"""

from surge_device.errors import SettingsError
from surge_device.json_object import decode_object
from surge_device.log import LEVELS
from surge_device.nearest import suggestion
from surge_device.outbox_limits import BYTES_MAX, ENTRIES_MAX, IN_FLIGHT_MAX, SEGMENT_BYTES, Limits

SETTINGS_FILE = "settings.json"
SECRETS_FILE = "secrets.json"
FILE_LEN_MAX = 4096
SENSORS_MAX = 8

# key, type, default, least, most, meaning. A "?" after the type allows null. The limits of a text are
# its length's.
TABLE = (
    ("broker_host", "text", "127.0.0.1", 1, 253, "host name or address of the MQTT broker"),
    ("broker_port", "int", 1883, 1, 65535, "8883 is usual with TLS"),
    ("tls", "bool", False, None, None, "whether to speak TLS with the broker"),
    (
        "ca_file",
        "text?",
        None,
        1,
        256,
        "PEM or DER file of the authority that the broker's certificate must come from",
    ),
    ("keepalive_s", "int", 30, 5, 3600, "silence after which broker and device give each other up"),
    ("report_interval_s", "number", 10, 0.05, 86400, "time between two reports"),
    (
        "sensors",
        "list",
        [{"driver": "resources"}],
        0,
        SENSORS_MAX,
        "what to read: objects with a driver and its options",
    ),
    ("wifi_ssid", "text?", None, 1, 32, "null where there is no Wi-Fi to join"),
    ("wifi_country", "text", "XX", 2, 2, "ISO 3166 code for the radio's rules; XX is the world-wide minimum"),
    ("wifi_timeout_s", "int", 30, 5, 300, "for joining the Wi-Fi, after which it is tried anew"),
    ("ntp_host", "text?", None, 1, 253, "null: the time comes from the gateway's acks"),
    (
        "outbox_bytes",
        "int",
        BYTES_MAX,
        65536,
        1 << 30,
        "flash for reports that wait; then telemetry is thinned",
    ),
    ("outbox_segment_bytes", "int", SEGMENT_BYTES, 8704, 1 << 20, "size of one of the outbox's files"),
    ("outbox_entries", "int", ENTRIES_MAX, 2, 2048, "reports that wait unsealed; then telemetry is thinned"),
    (
        "in_flight_max",
        "int",
        IN_FLIGHT_MAX,
        1,
        64,
        "sealed reports that wait for their ack; then none is sealed",
    ),
    ("status_interval_s", "int", 60, 1, 86400, "time between two log lines that say how the device is"),
    ("log_level", "text", "info", 1, 16, "debug, info, warning or error"),
)
SECRETS = (("wifi_password", "text?", None, 8, 64, "of the Wi-Fi network"),)

_TYPES = {"text": str, "int": int, "bool": bool, "list": list}


class Settings:
    """One attribute for each key of TABLE and SECRETS; only to be read."""

    def __init__(self, values, secrets):
        self.broker_host = values["broker_host"]
        self.broker_port = values["broker_port"]
        self.tls = values["tls"]
        self.ca_file = values["ca_file"]
        self.keepalive_s = values["keepalive_s"]
        self.report_interval_s = values["report_interval_s"]
        self.report_interval_ms = int(values["report_interval_s"] * 1000)
        self.sensors = values["sensors"]
        self.wifi_ssid = values["wifi_ssid"]
        self.wifi_country = values["wifi_country"]
        self.wifi_timeout_s = values["wifi_timeout_s"]
        self.ntp_host = values["ntp_host"]
        self.outbox_limits = Limits(
            values["outbox_bytes"],
            values["outbox_segment_bytes"],
            values["outbox_entries"],
            values["in_flight_max"],
        )
        self.status_interval_ms = values["status_interval_s"] * 1000
        self.log_level = LEVELS[values["log_level"]]
        self.wifi_password = secrets["wifi_password"]

    def __repr__(self):
        return "<Settings %s:%d>" % (self.broker_host, self.broker_port)


def load_settings(storage):
    """The settings in the data directory; both files may be absent. Raises SettingsError."""
    where = storage.path + "/" + SETTINGS_FILE
    values = check(where, _read(storage, SETTINGS_FILE), TABLE)
    secrets = check(storage.path + "/" + SECRETS_FILE, _read(storage, SECRETS_FILE), SECRETS)
    if values["log_level"] not in LEVELS:
        _fail(where, "log_level", "is " + repr(values["log_level"]), suggestion(values["log_level"], LEVELS))
    for sensor in values["sensors"]:
        if not isinstance(sensor, dict) or not isinstance(sensor.get("driver"), str):
            _fail(
                where,
                "sensors",
                "has an entry without a driver",
                'write {"driver": "resources"}, for example',
            )
    if values["outbox_bytes"] < 4 * values["outbox_segment_bytes"]:
        _fail(where, "outbox_bytes", "is less than four segments", "raise it, or lower outbox_segment_bytes")
    if values["ca_file"] and not values["tls"]:
        _fail(where, "ca_file", "is set, but tls is off", "set tls to true, or leave ca_file out")
    return Settings(values, secrets)


def check(where, given, table):
    """``given`` with the defaults of ``table``, or SettingsError. Also for a sensor driver's options."""
    known = [row[0] for row in table]
    for key in given:
        if key not in known:
            _fail(where, key, "is no known key", suggestion(key, known))
    values = {}
    for key, kind, default, least, most, meaning in table:
        value = given.get(key, default)
        wrong = _wrong(kind, value, least, most)
        if wrong:
            _fail(where, key, wrong, meaning)
        values[key] = value
    return values


def _wrong(kind, value, least, most):
    """What is wrong with a value, without showing it, or None."""
    if kind.endswith("?"):
        if value is None:
            return None
        kind = kind[:-1]
    if kind == "number":
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
    else:
        fits = type(value) is _TYPES[kind]
    if not fits:
        return "must be of type " + kind
    if least is not None:
        size = value if kind in ("int", "number") else len(value)
        if not least <= size <= most:
            return "must be %s to %s%s" % (least, most, "" if kind in ("int", "number") else " long")
    return None


def _read(storage, name):
    data = storage.read(name, FILE_LEN_MAX)
    if data is None:
        return {}
    where = storage.path + "/" + name
    if len(data) > FILE_LEN_MAX:
        raise SettingsError(
            "%s: longer than %d bytes; remedy: leave out what is at its default" % (where, FILE_LEN_MAX)
        )
    found = decode_object(data)
    if found is None:
        raise SettingsError("%s: no JSON object; remedy: check commas, quotes and braces" % where)
    return found


def _fail(where, key, wrong, remedy):
    raise SettingsError("%s: '%s' %s; remedy: %s" % (where, key, wrong, remedy))
