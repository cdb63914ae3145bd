"""HMAC, HKDF, COSE and Ed25519: published examples, and the keys of one device."""

from surge_wire import cose, hkdf
from vector_cases.inputs import SECRET, Case


def hkdf_cases() -> list[Case]:
    def hmac_case(name: str, key: bytes, message: bytes, mac: str) -> Case:
        return {"name": name, "function": "hmac", "key": key.hex(), "message": message.hex(), "output": mac}

    def hkdf_case(name: str, ikm: bytes, salt: bytes, info: bytes, okm: str) -> Case:
        return {
            "name": name,
            "function": "hkdf",
            "secret": ikm.hex(),
            "salt": salt.hex(),
            "info": info.hex(),
            "output": okm,
        }

    cases = [
        hmac_case(
            "RFC 4231 4.2",
            b"\x0b" * 20,
            b"Hi There",
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        ),
        hmac_case(
            "RFC 4231 4.3",
            b"Jefe",
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        hmac_case(
            "RFC 4231 4.4",
            b"\xaa" * 20,
            b"\xdd" * 50,
            "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
        ),
        hmac_case(
            "RFC 4231 4.7",
            b"\xaa" * 131,
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
        hkdf_case(
            "RFC 5869 A.1",
            b"\x0b" * 22,
            bytes(range(13)),
            bytes(range(0xF0, 0xFA)),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        hkdf_case(
            "RFC 5869 A.2",
            bytes(range(0x50)),
            bytes(range(0x60, 0xB0)),
            bytes(range(0xB0, 0x100)),
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
            "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
        ),
        hkdf_case(
            "RFC 5869 A.3",
            b"\x0b" * 22,
            b"",
            b"",
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ]
    for info in (hkdf.INFO_REPORT, hkdf.INFO_COMMAND, hkdf.INFO_MQTT):
        cases.append(
            hkdf_case(f"key for {info.decode()}", SECRET, b"", info, hkdf.derive_key(SECRET, info).hex())
        )
    cases.append(
        {
            "name": "MQTT password",
            "function": "mqtt_password",
            "secret": SECRET.hex(),
            "output": hkdf.mqtt_password(SECRET),
        }
    )
    return cases


def cose_cases() -> list[Case]:
    return [
        {
            "name": "COSE working group's examples: mac0-tests/HMac-01",
            "tag": cose.TAG_MAC0,
            "envelope": "d18443a10105a054546869732069732074686520636f6e74656e742e5820"
            "a1a848d3471f9d61ee49018d244c824772f223ad4f935293f1789fc3a08d8c58",
            "key": "849b57219dae48de646d07dbb533566e976686457c1491be3a76dcea6c427188",
            "signed": "84644d41433043a101054054546869732069732074686520636f6e74656e742e",
            "payload": b"This is the content.".hex(),
        },
        {
            "name": "COSE working group's examples: eddsa-examples/eddsa-sig-01 (key of RFC 8032 7.1 test 1)",
            "tag": cose.TAG_SIGN1,
            "envelope": "d28445a201270300a10442313154546869732069732074686520636f6e74656e742e5840"
            "7142fd2ff96d56db85bee905a76ba1d0b7321a95c8c4d3607c5781932b7afb87"
            "11497dfa751bf40b58b3bcc32300b1487f3db34085eef013bf08f4a44d6fef0d",
            "key": "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "signed": "846a5369676e61747572653145a2012703004054546869732069732074686520636f6e74656e742e",
            "payload": b"This is the content.".hex(),
        },
    ]


def ed25519_cases() -> list[Case]:
    return [
        {
            "name": "RFC 8032 7.1 test 1",
            "seed": "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "public_key": "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "message": "",
            "signature": "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555"
            "fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        },
        {
            "name": "RFC 8032 7.1 test 2",
            "seed": "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "public_key": "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "message": "72",
            "signature": "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        },
    ]
