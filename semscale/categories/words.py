"""Everyday words for the control of random words: they say nothing about any class on purpose."""

from __future__ import annotations

_TEXT = """
above across after again almost along always among around aside average because before begin behind below
beneath between beyond bottom bound brief bring careful carry central certain chance chapter close common
complete curious current daily decade degree detail differ direct distant early effect either enough entire
equal even exact extra fair familiar final follow former forward front further glad gradual great honest hour
idea instead keep kind last late least left length level likely limit local loose main major many margin
market matter measure medium merely middle minute modest moment month motion near neat never next normal
notice often once only opposite order other outside overall partial past patient pause perhaps place plenty
polite present previous promise proper quarter question quick quiet quite random rapid rare rather ready
reason recent regular remain repeat rest right secret separate series several silent similar simple since
single slight sometimes soon spare special spread steady still strange strict sudden swift tender theory title
together topic total toward twice under unit until usual various vast version weekly whole within without
wonder yearly
"""

WORDS = tuple(_TEXT.split())
"""Words without a picture of their own, most of them for time, place and degree; no numbers, which may be classes."""
