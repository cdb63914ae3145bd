"""Who this device is: its id, its secret, and the boot counter that makes its reports unrepeatable.

Reads what provisioning left in the data directory:
    identity.json   {"device": "d...", "secret": 64 hex digits}
    floor.json      {"boot": N, "command": N}: makes the counters at the first start, then is deleted
    boot.0 boot.1 command.0 command.1   the two counters (``surge_device.cell``)
Rules: the secret is in no text, repr or error; ``next_boot`` persists the number before it returns it
(threat 5); counters that are lost are never begun again from a guess: provisioning must state a floor,
above the last boot that the backend has seen. Derives no keys: ``surge_wire.hkdf`` does.
"""

import binascii

from surge_device.cell import VALUE_MAX, Cell
from surge_device.errors import BootCounterLost, CellLost, IdentityError
from surge_device.json_object import decode_object
from surge_wire.ids import DEVICE, is_id
from surge_wire.limits import SECRET_LEN

IDENTITY_FILE = "identity.json"
FLOOR_FILE = "floor.json"
_FILE_LEN_MAX = 512
_REMEDY = "; remedy: provision the device again"


class Identity:
    def __init__(self, device, secret, storage):
        self.device = device
        self.secret = secret
        self._storage = storage
        self._boot = Cell(storage, "boot")
        self._command = Cell(storage, "command")

    def __repr__(self):
        return "<Identity %s>" % self.device

    def next_boot(self, seen=0):
        """The number of this boot, one above the last and already on flash. Call once per start.

        ``seen``: the highest boot that other records on the device show, in case flash lost the newest copy.
        Raises BootCounterLost."""
        self._take_floor()
        try:
            boot = max(self._boot.read(), seen) + 1
            if self._boot.in_doubt:
                boot += 1  # the copy that is gone may have held the last boot's number
        except CellLost as error:
            raise BootCounterLost(str(error) + self._floor_remedy())
        if boot > VALUE_MAX:
            raise BootCounterLost("the boot counter is used up" + _REMEDY + " with a new id")
        self._boot.write(boot)
        return boot

    def last_command(self):
        """The counter of the last executed command. Raises CellLost."""
        try:
            return self._command.read()
        except CellLost as error:
            raise CellLost(str(error) + self._floor_remedy())

    def executed_command(self, counter):
        """Persists the counter of a command; call before executing it, so that it never runs twice."""
        self._command.write(counter)

    def _take_floor(self):
        """Makes or lifts the counters as provisioning said, then forgets that it did."""
        data = self._storage.read(FLOOR_FILE, _FILE_LEN_MAX)
        if data is None:
            return
        floor = _object(FLOOR_FILE, data)
        for name, cell in (("boot", self._boot), ("command", self._command)):
            value = floor.get(name, 0)
            if type(value) is not int or not 0 <= value < VALUE_MAX:
                raise IdentityError("%s: '%s' is no counter%s" % (FLOOR_FILE, name, _REMEDY))
            try:
                if cell.read() < value:
                    cell.write(value)
                cell.settle()
            except CellLost:
                cell.create(value)
        self._storage.remove(FLOOR_FILE)
        self._storage.sync_names()

    def _floor_remedy(self):
        return (
            '; remedy: write %s/%s with a "boot" above the last one that the backend has of %s,'
            ' and its last "command", or provision the device again'
            % (self._storage.path, FLOOR_FILE, self.device)
        )


def load_identity(storage):
    """The identity in the data directory. Raises IdentityError."""
    data = storage.read(IDENTITY_FILE, _FILE_LEN_MAX)
    where = storage.path + "/" + IDENTITY_FILE
    if data is None:
        raise IdentityError("no identity at %s%s" % (where, _REMEDY))
    found = _object(where, data)
    if not is_id(DEVICE, found.get("device")):
        raise IdentityError("%s: 'device' is no device id (d and 16 of a-z, 2-7)%s" % (where, _REMEDY))
    try:
        secret = binascii.unhexlify(found["secret"])
    except (KeyError, TypeError, ValueError):
        secret = b""
    if len(secret) != SECRET_LEN:
        raise IdentityError("%s: 'secret' is not %d hex digits%s" % (where, 2 * SECRET_LEN, _REMEDY))
    return Identity(found["device"], secret, storage)


def _object(where, data):
    found = decode_object(data)
    if found is None:
        raise IdentityError("%s: no JSON object%s" % (where, _REMEDY))
    return found
