"""Exchanges motion with other programs: the VMC protocol, face trackers on phones, and motion files.

Every module converts a format to or from ``ArkitFrame``. The package does not depend on portraits.
"""
