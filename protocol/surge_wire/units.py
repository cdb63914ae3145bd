"""The units of SenML's registry: RFC 8428 section 12.1 and RFC 8798, primary and secondary.

Kept apart from ``senml`` because a board never needs the list: readers on hosts check it.
"""

PRIMARY = (
    "m kg g s A K cd mol Hz rad sr N Pa J W C V F Ohm S Wb T H Cel lm lx Bq Gy Sv kat m2 m3 l m/s m/s2 m3/s"
    " l/s W/m2 cd/m2 bit bit/s lat lon pH dB dBW Bspl count / % %RH %EL EL 1/s 1/min beat/min beats S/m B VA"
    " VAs var vars J/m kg/m3 deg NTU"
)
SECONDARY = (
    "ms min h MHz kW kVA kvar Ah Wh kWh varh kvarh kVAh Wh/km KiB GB Mbit/s B/s MB/s mV mA dBm ug/m3 mm/h m/h"
    " ppm /100 /1000 hPa mm cm km km/h ppb ppt VAh mg/l ug/l g/l"
)

REGISTERED = frozenset((PRIMARY + " " + SECONDARY).split())


def is_registered(unit: str) -> bool:
    """Whether ``unit`` is in the registry. No unit at all is allowed too (RFC 8428 section 4.2)."""
    return unit == "" or unit in REGISTERED
