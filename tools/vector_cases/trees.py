"""Merkle trees, on the reference tree of RFC 6962's implementation."""

from surge_wire import merkle
from vector_cases.inputs import Case

# Leaves and roots of the tree that RFC 6962's reference implementation is tested with (sizes 0 to 8).
CT_LEAVES = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
]
CT_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def ct_node(level: int, index: int) -> bytes:
    if level == 0:
        return merkle.leaf_hash(bytes.fromhex(CT_LEAVES[index]))
    return merkle.node_hash(ct_node(level - 1, 2 * index), ct_node(level - 1, 2 * index + 1))


def merkle_cases() -> list[Case]:
    cases: list[Case] = []
    for size, root in enumerate(CT_ROOTS):
        cases.append(
            {"name": f"root of {size} leaves", "kind": "root", "leaves": CT_LEAVES[:size], "root": root}
        )
    for size in range(1, 9):
        for index in range(size):
            path = [item.hex() for item in merkle.inclusion_path(ct_node, index, size)]
            cases.append(
                {
                    "name": f"inclusion of {index} in {size}",
                    "kind": "inclusion",
                    "valid": True,
                    "leaf": CT_LEAVES[index],
                    "index": index,
                    "size": size,
                    "path": path,
                    "root": CT_ROOTS[size],
                }
            )
        for older in range(size + 1):
            path = [item.hex() for item in merkle.consistency_path(ct_node, older, size)]
            cases.append(
                {
                    "name": f"consistency of {older} with {size}",
                    "kind": "consistency",
                    "valid": True,
                    "size_1": older,
                    "root_1": CT_ROOTS[older],
                    "size_2": size,
                    "root_2": CT_ROOTS[size],
                    "path": path,
                }
            )
    path = [item.hex() for item in merkle.inclusion_path(ct_node, 5, 8)]
    good = {
        "kind": "inclusion",
        "valid": False,
        "leaf": CT_LEAVES[5],
        "index": 5,
        "size": 8,
        "path": path,
        "root": CT_ROOTS[8],
    }
    cases += [
        good | {"name": "index beyond the tree", "index": 8},
        good | {"name": "index negative", "index": -1},
        good | {"name": "size zero", "size": 0},
        good | {"name": "path too short", "path": path[:-1]},
        good | {"name": "path too long", "path": [*path, path[0]]},
        good | {"name": "path empty", "path": []},
        good | {"name": "path with an empty hash", "path": ["", *path[1:]]},
        good | {"name": "path with a hash of 31 bytes", "path": [path[0][:-2], *path[1:]]},
        good | {"name": "path of 65", "path": path[:1] * 65},
        good | {"name": "another leaf", "leaf": CT_LEAVES[4]},
        good | {"name": "another index", "index": 4},
        good | {"name": "path in another order", "path": path[::-1]},
    ]
    path = [item.hex() for item in merkle.consistency_path(ct_node, 3, 7)]
    good = {
        "kind": "consistency",
        "valid": False,
        "size_1": 3,
        "root_1": CT_ROOTS[3],
        "size_2": 7,
        "root_2": CT_ROOTS[7],
        "path": path,
    }
    cases += [
        good | {"name": "older root forged", "root_1": CT_ROOTS[4]},
        good | {"name": "newer root forged", "root_2": CT_ROOTS[8]},
        good | {"name": "consistency path too short", "path": path[:-1]},
        good | {"name": "consistency path too long", "path": [*path, path[0]]},
        good | {"name": "consistency path empty", "path": []},
        good | {"name": "sizes the wrong way round", "size_1": 7, "size_2": 3},
        good | {"name": "older root empty", "root_1": ""},
        good | {"name": "same size, other root", "size_1": 7, "root_1": CT_ROOTS[6], "path": []},
        good | {"name": "from nothing, with a path", "size_1": 0, "root_1": CT_ROOTS[0]},
        good
        | {"name": "from nothing, root not the empty one", "size_1": 0, "root_1": CT_ROOTS[1], "path": []},
    ]
    return cases
