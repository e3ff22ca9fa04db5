/** What `jlogctl help` says. The commands and letters are libjlog's, the words are ours. */

export const USAGE = `jlogctl: look after a journal in the jlog format

Subscribers
  jlogctl subscriber [-j DIR] [-v]
    -l                list them with their checkpoints (what it does by default)
    -a NAME [-C ID]   add one, at the beginning or after ID
    -u NAME -C ID     set one's checkpoint to ID
    -e NAME           erase one
    -p NAME           show where one stands, and what it reads next

Records
  jlogctl data [-j DIR] [-v]
                      list the segments with the subscribers that still need them
    -i                with their indexes
    -d                look for damage
    -r                look for damage and repair it
  jlogctl clean [-j DIR] [-v]
                      remove the segments that no subscriber needs

The journal
  jlogctl create -j DIR [-v] [-s BYTES] [-p BYTES] [-c on|off]
  jlogctl alter [-j DIR] [-v] [-s BYTES] [-p BYTES] [-c on|off]
    -s BYTES          size of a segment
    -p BYTES          size of the pre-commit buffer, 0 for none
    -c on|off         compression; it is fixed once the journal is made
  jlogctl meta [-j DIR] [-c | -f | -l | -m | -p | -s]
                      show all settings, or only:
    -c compression, -f safety, -l segment being written, -m magic of the records,
    -p size of the pre-commit buffer, -s size of a segment
  jlogctl repair [-j DIR] [-v] [-f]
                      repair metastore and checkpoints
    -f                and segments and everything else

  jlogctl help        this text

DIR is the current directory when not given. ID is written 00000000:00000001. -v says more.
Example: jlogctl subscriber -j /var/log/mail.jlog -a archive
`

export const OLD_USAGE = `
The old form: jlogctl OPTIONS DIR...
    -a NAME   add a subscriber        -e NAME   erase one
    -u NAME   update one              -C ID     checkpoint for -a and -u
    -p NAME   show where one stands   -s        list the subscribers
    -l        list the segments       -i        with their indexes
    -c        clean                   -d        look for damage
    -r        look for damage and repair it
    -R        repair metastore and checkpoints
    -v        say more
`
