"""The currencies that there are, with the decimals of each, and amounts for people.

Source: ISO 4217 (list one).
"""

from __future__ import annotations

_CODES = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: (
        "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC CUP CVE "
        "CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD "
        "KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR "
        "PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU "
        "UZS VED VES WST XCD XCG YER ZAR ZMW ZWG"
    ),
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
DECIMALS = {code: places for places, codes in _CODES.items() for code in codes.split()}

AMOUNT_MINOR_MAX = 10**15 - 1  # far above any basket, in any currency, and exact in JSON


def amount_fault(amount_minor: object, currency: object, *, least: int = 1) -> str:
    """What is wrong with an amount in a shop's own code; empty: nothing."""
    if type(amount_minor) is not int or not least <= amount_minor <= AMOUNT_MINOR_MAX:
        return f"{str(amount_minor)[:24]!r} is no amount: give a whole number of minor units, {least} to {AMOUNT_MINOR_MAX}"
    if not isinstance(currency, str) or currency not in DECIMALS:
        return f"{str(currency)[:8]!r} is no currency: give its code of ISO 4217 in capital letters, for instance EUR"
    return ""


def decimals(currency: str) -> int:
    """How many decimals the currency has: 2 for one that is not in the list."""
    return DECIMALS.get(currency.upper(), 2)


def major(amount_minor: int, currency: str) -> str:
    """4999 EUR is `49.99`, 4999 JPY is `4999`: exact, without grouping, the same in every locale."""
    places = decimals(currency)
    sign, digits = ("-" if amount_minor < 0 else ""), str(abs(amount_minor)).rjust(places + 1, "0")
    return f"{sign}{digits[:-places]}.{digits[-places:]}" if places else f"{sign}{digits}"
