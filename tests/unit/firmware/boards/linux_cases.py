"""Cases of the Linux board, on a /proc and /sys made for them, and on this machine's own."""

import os

from expect import raises

from boards.linux.board import RESTART_EXIT_CODE, Board


def tree(folder, files):
    """Writes files, their folders included."""
    for path, text in files.items():
        parts = path.split("/")
        for depth in range(1, len(parts)):
            try:
                os.mkdir(folder + "/" + "/".join(parts[:depth]))
            except OSError:
                pass
        with open(folder + "/" + path, "w") as file:
            file.write(text)


FULL = {
    "proc/stat": "cpu  100 0 100 800 0 0 0 0 50 0\ncpu0 1 2 3\n",
    "proc/meminfo": "MemTotal:        1000 kB\nMemFree:          100 kB\nMemAvailable:     400 kB\n",
    "proc/uptime": "4711.99 1.0\n",
    "proc/net/dev": "Inter-|   Receive\n face |bytes\n"
    "    lo: 999 1 0 0 0 0 0 0 999 1 0 0 0 0 0 0\n"
    "  eth0: 100 1 0 0 0 0 0 0 2000 1 0 0 0 0 0 0\n"
    " wlan0:   7 1 0 0 0 0 0 0   30 1 0 0 0 0 0 0\n",
    "proc/net/wireless": "Inter-| sta-|\n face | tus |\n wlan0: 0000   54.  -61.  -256        0\n",
    "sys/class/thermal/thermal_zone0/type": "acpitz\n",
    "sys/class/thermal/thermal_zone0/temp": "20000\n",
    "sys/class/thermal/thermal_zone1/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone1/temp": "48312\n",
}


def board(folder, files):
    tree(folder, files)
    return Board(None, folder, folder + "/proc", folder + "/sys")


def case_every_resource_of_a_raspberry_pi_is_read(folder):
    made = board(folder, FULL)
    tree(folder, {"proc/stat": "cpu  150 0 100 830 20 0 0 0 99 0\n"})
    values = made.read_resources()
    assert values.pop("disk_free") > 0
    assert values.pop("disk_total") > 0
    assert values == {
        "cpu": 50.0,
        "mem_total": 1024000,
        "mem_free": 409600,
        "host_uptime": 4711,
        "temp": 48.312,
        "tx_bytes": 2030,
        "rx_bytes": 107,
        "rssi": -61,
    }


def case_what_a_machine_does_not_have_is_absent(folder):
    values = board(folder, {"proc/none": "", "sys/none": ""}).read_resources()
    assert sorted(values) == ["disk_free", "disk_total"]
    values = board(folder, {"proc/stat": "", "proc/uptime": "", "proc/meminfo": ""}).read_resources()
    assert sorted(values) == ["disk_free", "disk_total"]


def case_no_time_between_two_readings_means_no_load(folder):
    made = board(folder, FULL)
    assert "cpu" not in made.read_resources()


def case_a_signal_that_is_not_in_dbm_is_left_out(folder):
    wireless = "Inter-| sta-|\n face | tus |\n wlan0: 0000   54.  70.  0        0\n"
    assert "rssi" not in board(folder, {"proc/net/wireless": wireless, "sys/none": ""}).read_resources()


def case_a_processors_hwmon_is_found_where_there_is_no_thermal_zone(folder):
    files = {
        "proc/none": "",
        "sys/class/hwmon/hwmon0/name": "nvme\n",
        "sys/class/hwmon/hwmon0/temp1_input": "30000\n",
        "sys/class/hwmon/hwmon1/name": "coretemp\n",
        "sys/class/hwmon/hwmon1/temp1_input": "55000\n",
    }
    assert board(folder, files).read_resources()["temp"] == 55.0


def case_this_machine_can_be_read(folder):
    made = Board(None, folder)
    values = made.read_resources()
    assert 0 < values["mem_free"] <= values["mem_total"]
    assert 0 < values["disk_free"] <= values["disk_total"]
    assert 0 <= values.get("cpu", 0) <= 100
    assert values["host_uptime"] > 0
    assert len(made.entropy(16)) == 16
    assert made.entropy(16) != made.entropy(16)


def case_a_reset_leaves_with_the_code_that_asks_for_a_restart(folder):
    error = raises(SystemExit, Board(None, folder).reset)
    assert error.args[0] == RESTART_EXIT_CODE
