"""Tells people that something is wrong: rules find faults, alerts are opened and resolved, channels send messages.

    `host_conditions`      what is wrong with this host: from its processes' files, its journals and its disk
    `ledger_conditions`    what is wrong with keys and calls: from the tables of sums, never from calls
      │  faults
      ▼
    `evaluation`           a thread of each host's shipper: looks every 30 seconds, and notes that the host is alive
      │                    (`hosts`); under a lock in the database, one of the hosts looks at the ledger for all of them
      ▼
    `incidents`            opens, repeats and resolves alerts, and writes a message for each channel, in one transaction
      │  `notice`          what a message says
      ▼
    `outbox`               another thread of the shipper: sends what is due, tries again, keeps the results
      │  `formats`         a message as JSON, for Slack, for Teams, and as a text
      ▼
    `delivery`             HTTP and SMTP, with a time limit

`outage` is for the one fault that cannot be written to the database: that the database is away. `kinds` explains each
kind of fault: what its threshold means, and what to do. The tables are in `chatproxy.alert_models`, the pages in
`chatproxy.admin`, and the forms of these pages in `forms`.

No call waits for this code. A slow channel delays messages, never the shipping of the journals.
"""
