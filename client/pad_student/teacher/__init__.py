"""The client of the teacher service: ``requests`` cut sets, ``replicas`` share, ``network`` sends, ``checks`` test.

``client`` is the one door. A folder imports only folders named after it, ``options`` and ``errors``.
"""
