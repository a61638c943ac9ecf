"""Replay: turns taken from the log, run again exactly or with one thing changed, and compared.

recording.py what is kept · files.py, recorder.py where it comes from · turns.py a recording as turns · stub.py the
owner run again on recorded inputs · compare.py, diff.py what differs
"""
