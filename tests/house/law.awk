# SPDX-License-Identifier: Apache-2.0
#
# law.awk - the part of law that reads sources, for any POSIX awk.
#
# In: rooms, guests, wall and files as law has them. Out: violations, and on
# descriptor 3 the includes as "file FROM TO" and "room FROM TO".

BEGIN {
	MAX_FILE = 700
	MAX_FUNCTION = 100
	MAX_COLUMN = 100
	nr_files = split(files, list, "\n")
	for (i = 1; i <= nr_files; i++)
		exists[list[i]] = 1
	learn(rooms, room_may)
	learn(guests, guest_may)
	learn(wall, wall_may)
}

function learn(text, table,	i, n, lines, words)
{
	n = split(text, lines, "\n")
	for (i = 1; i <= n; i++) {
		if (split(lines[i], words, /[ \t]+/) == 0 || words[1] == "")
			continue
		table[words[1]] = substr(lines[i], length(words[1]) + 1) " "
		gsub(/\t/, " ", table[words[1]])
	}
}

function say(line, text)
{
	printf "%s:%d: %s\n", FILENAME, line, text
}

function begins(path, room)
{
	return index(path, room "/") == 1
}

# Longest room that @path begins with; "" for tests and the top.
function room_of(path,	room, best)
{
	best = ""
	for (room in room_may)
		if (begins(path, room) && length(room) > length(best))
			best = room
	return best
}

# Where an include lies in the tree, "" when it is not ours.
function resolve(name)
{
	if (name ~ /^kvd\//) {
		if (("kernels/include/" name) in exists)
			return "kernels/include/" name
		return "client-lib/include/" name
	}
	return (name in exists) ? name : ""
}

function check_guest(name,	guest, i, n, where)
{
	for (guest in guest_may) {
		if (index(name, guest) != 1)
			continue
		n = split(guest_may[guest], where, / +/)
		for (i = 1; i <= n; i++)
			if (where[i] == room || (!(where[i] in room_may) &&
			    where[i] != "" && index(FILENAME, where[i]) == 1))
				return
		say(FNR, name " is no guest of this room")
	}
}

function check_include(quoted, name,	path, to)
{
	if (room != "")
		check_guest(name)
	path = resolve(name)
	if (path == "") {
		if (quoted && name !~ /\.(pb-c|inc)\.h$/)
			say(FNR, name " is not a path from the root")
		return
	}
	print "file", FILENAME, path > "/dev/fd/3"
	to = room_of(path)
	if (room == "" || to == room)
		return
	print "room", room, to > "/dev/fd/3"
	if (index(room_may[room], " " to " ") == 0 &&
	    index(room_may[room], " " path " ") == 0)
		say(FNR, room " may not include " path)
}

# Rooms that neither log nor end the process nor ask what time it is.
function check_calls(line)
{
	if (room != "daemon/mem" && room != "client-lib")
		return
	if (line ~ /(^|[^a-z_>.])(printf|fprintf|perror|syslog|exit|_exit|abort)\(/)
		say(FNR, room " neither logs nor exits")
	if (room == "daemon/mem" &&
	    line ~ /(^|[^a-z_])(clock_gettime|gettimeofday|time)\(/)
		say(FNR, room " has no clock of its own")
}

# The time of day jumps when it is set: deadlines and intervals that are made of
# it come never, or at once. What waits by that clock unasked is meant too.
function check_clock(line)
{
	if (room !~ /^(daemon|client-lib)(\/|$)/ || (FILENAME in wall_may))
		return
	if (line ~ /CLOCK_(REALTIME|TAI)|TIME_UTC|gettimeofday\(/ ||
	    line ~ /(^|[^a-z_>.])(time|ftime)\(/ ||
	    line ~ /(pthread_cond|pthread_mutex|sem|cnd|mtx)_timed(wait|lock)\(/)
		say(FNR, room " may not tell the time of day: it jumps")
}

# How the file that has just ended began.
function check_head(	base)
{
	base = last
	sub(/.*\//, "", base)
	if (head !~ /SPDX-License-Identifier: Apache-2\.0/)
		print last ":1: no SPDX line"
	if (base !~ /^CMakeLists\.txt$|\.cmake$/ &&
	    index(head, " " base " - ") == 0)
		print last ":1: no title line"
}

function columns(line,	i, n, col, parts)
{
	n = split(line, parts, "\t")
	col = length(parts[1])
	for (i = 2; i <= n; i++)
		col = int(col / 8) * 8 + 8 + length(parts[i])
	return col
}

FNR == 1 {
	if (last)
		check_head()
	last = FILENAME
	room = room_of(FILENAME)
	is_c = FILENAME ~ /\.(c|h|cc|cpp|cu|cuh)$/
	head = ""
	body = 0
}

FNR <= 6 { head = head " " $0 }

FNR == MAX_FILE + 1 { say(FNR, "over " MAX_FILE " lines") }

!is_c { next }

columns($0) > MAX_COLUMN { say(FNR, "wider than " MAX_COLUMN) }

/^[ \t]*#[ \t]*include[ \t]*[<"]/ {
	name = $0
	sub(/^[^<"]*[<"]/, "", name)
	sub(/[>"].*/, "", name)
	check_include($0 ~ /include[ \t]*"/, name)
}

{ check_calls($0); check_clock($0) }

/^[ \t]*#[ \t]*if/ && FILENAME ~ /\.c$/ && room != "" {
	say(FNR, "#if in a .c file: the build picks one of two files")
}

# Kernel braces: a function is between "{" and "}" in the first column.
/^{/ { body = FNR }
/^}/ {
	if (body && FNR - body - 1 > MAX_FUNCTION)
		say(body, "a function of over " MAX_FUNCTION " lines")
	body = 0
}

END { check_head() }
