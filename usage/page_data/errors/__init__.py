"""The errors page: failed calls in groups with the same outcome, error code and kind of message.

`call_faults` decides by whose fault a call failed. `error_groups` reads the groups of a range of time from the sums,
`error_marks` what people have said of them: known or resolved. `newest_failures` is for "My usage".
"""
