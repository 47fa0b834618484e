"""The server's log: lines of one moment are one write, none is lost, and their times are those of logging."""

import asyncio
import logging
import threading

from palate.serve.log import JoinedLines, Stamped


class Written(list):
    """A stream that keeps what each write has given it."""

    write = list.append

    def flush(self):
        pass


def made():
    handler, log = JoinedLines(), logging.Logger("made up")
    handler.stream = Written()
    log.addHandler(handler)
    return log, handler.stream


def test_lines_of_one_iteration_are_one_write():
    log, written = made()

    async def work():
        for number in range(3):
            log.info("line %d", number)
        assert written == []
        await asyncio.sleep(0)
        log.info("later")
        await asyncio.sleep(0)

    asyncio.run(work())
    assert written == ["line 0\nline 1\nline 2\n", "later\n"]


def test_errors_and_lines_of_threads_are_written_immediately_and_in_order():
    log, written = made()

    async def work():
        log.info("first")
        log.error("second")
        assert written == ["first\nsecond\n"]
        log.info("third")
        thread = threading.Thread(target=log.info, args=("fourth",))
        thread.start()
        thread.join()
        assert written[1:] == ["third\nfourth\n"]
        log.info("fifth")
        await asyncio.sleep(0)

    asyncio.run(work())
    assert "".join(written) == "first\nsecond\nthird\nfourth\nfifth\n"


def test_a_line_that_waits_when_the_process_ends_is_written():
    log, written = made()

    async def work():
        log.info("last")
        log.handlers[0].flush()  # as logging.shutdown does

    asyncio.run(work())
    assert written == ["last\n"]


def test_times_are_those_of_the_standard_formatter():
    stamped, standard = Stamped(), logging.Formatter("%(asctime)s %(message)s")
    for created in (0.0, 0.25, 893286638.999, 893286639.0, 1e9):
        record = logging.makeLogRecord({"msg": "x", "created": created, "msecs": 1000 * (created % 1)})
        assert stamped.format(record) == standard.format(record)
