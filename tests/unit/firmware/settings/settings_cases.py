"""Cases of the settings: defaults, ranges, and errors that name the key, the place and the remedy."""

from expect import raises

from surge_device.errors import SettingsError
from surge_device.nearest import distance, nearest
from surge_device.settings import SECRETS, TABLE, load_settings
from surge_device.storage import Storage


def settings(folder, text=None, secrets=None):
    for name, content in (("settings.json", text), ("secrets.json", secrets)):
        if content is not None:
            with open(folder + "/" + name, "w") as file:
                file.write(content)
    return load_settings(Storage(folder))


def error(folder, text=None, secrets=None):
    return str(raises(SettingsError, settings, folder, text, secrets))


def case_no_files_mean_the_defaults_of_the_table(folder):
    found = settings(folder)
    assert (found.broker_host, found.broker_port, found.tls) == ("127.0.0.1", 1883, False)
    assert found.report_interval_ms == 10000
    assert found.sensors == [{"driver": "resources"}]
    assert found.outbox_limits.in_flight_max == 16
    assert found.wifi_password is None


def case_what_is_given_is_taken(folder):
    found = settings(
        folder,
        '{"broker_host": "gw.example", "broker_port": 8883, "tls": true, "ca_file": "/ca.pem",'
        ' "report_interval_s": 0.25, "outbox_entries": 64, "in_flight_max": 8, "log_level": "debug"}',
        '{"wifi_password": "long enough"}',
    )
    assert (found.broker_host, found.broker_port, found.tls) == ("gw.example", 8883, True)
    assert found.report_interval_ms == 250
    assert (found.outbox_limits.entries_max, found.outbox_limits.in_flight_max) == (64, 8)
    assert found.wifi_password == "long enough"
    assert "long enough" not in repr(found)


def case_an_unknown_key_names_the_nearest_known_one(folder):
    text = error(folder, '{"broker_prot": 1}')
    assert "'broker_prot'" in text
    assert "did you mean 'broker_port'?" in text
    assert folder + "/settings.json" in text
    assert "known: " in error(folder, '{"colour_of_the_case": 1}')
    assert "did you mean 'wifi_password'?" in error(folder, "{}", '{"wifi_pasword": "12345678"}')


def case_every_key_has_its_range_checked(folder):
    for key, kind, _, least, most, _ in TABLE:
        wrong = ["[[]]", '{"a": 1}']
        if kind in ("int", "number"):
            wrong += [str(least - 1), str(most + 1), '"5"', "true", "null"]
        if kind.startswith("text"):
            wrong += ['"%s"' % ("x" * (most + 1)), "5", '""']
        if kind == "int":
            wrong += ["1.5"]
        if kind == "bool":
            wrong += ["1", "null", '"true"']
        if kind == "list":
            wrong += ["[" + ", ".join(["5"] * (most + 1)) + "]", "null"]
        for value in wrong:
            text = error(folder, '{"%s": %s}' % (key, value))
            assert key in text, (key, value, text)
            assert "remedy: " in text, (key, value, text)


def case_the_table_is_complete(folder):
    """Every key is an attribute or part of one, and each says what it means."""
    found = settings(folder)
    for key, _, _, _, _, meaning in TABLE + SECRETS:
        assert meaning
        if not key.startswith(("outbox_", "in_flight")) and key != "status_interval_s":
            assert hasattr(found, key), key


def case_settings_that_contradict_each_other_are_refused(folder):
    assert "tls" in error(folder, '{"ca_file": "/ca.pem"}')
    assert "segments" in error(folder, '{"outbox_bytes": 65536, "outbox_segment_bytes": 20000}')
    assert "did you mean 'debug'?" in error(folder, '{"log_level": "debgu"}')
    assert "driver" in error(folder, '{"sensors": [{"drivr": "resources"}]}')


def case_files_that_are_no_settings_are_refused(folder):
    for text in ("", "[]", "{", '{"tls": true', "\x00", "5"):
        assert "no JSON object" in error(folder, text)
    assert "longer than" in error(folder, '{"broker_host": "%s"}' % ("x" * 5000))


def case_a_wrong_password_is_not_shown(folder):
    text = error(folder, "{}", '{"wifi_password": "hunter2"}')
    assert "hunter2" not in text
    assert "8 to 64 long" in text
    assert "secrets.json" in text


def case_distance_counts_edits(folder):
    for left, right, edits in (("", "", 0), ("a", "", 1), ("kitten", "sitting", 3), ("abc", "acb", 2)):
        assert distance(left, right) == edits
        assert distance(right, left) == edits
    assert nearest("xyz", ["abc"]) is None
    assert nearest("resorces", ["file", "resources"]) == "resources"
