"""Which test part a record is of, whatever the order in which its images were predicted.

Copies of a data set hold the published images in one order or another. Accuracies over all of them compare none the
less; predictions compare image by image only in one order.
"""

FIRST_RECORDED = {
    "44cb8573fd09ec8bf1baa9d0b18801d54db6ee1d08dfd6f961818acbfcbdf907":  # CIFAR-10, class by class
        "899683d46c3a8c66fd56e1af12202e69fe5a4517be10b0f68e04c78fe585c57c",
    "6afd276a23f3cdb89ba9c59d1c6a8c4802000222ff58a5b13e2cc4a52070c37a":  # CIFAR-100, class by class
        "d3cd5d87a1b9317a0982c8ef5535fe3b86da8da90b13ce5e9b23ea06400dd5eb",
    "d0a22fafa738338c27d87d54ea92a0c193b61cf71544e05d53a68f0b30e82a5a":  # the digits
        "0482b437e44b5799f0b13f4df6f5a51be740ac0557a80bfce1ec07bdf9f3bc33",
}  # fmt: skip
"""By the digest in order: the fingerprints of test parts of which there are records that tell no fingerprint."""


def part_of(test_sha256: str, fingerprint: str | None) -> str:
    """What all records of one test part have in common: its fingerprint, or its digest in order where none is known."""
    return fingerprint or FIRST_RECORDED.get(test_sha256, test_sha256)
