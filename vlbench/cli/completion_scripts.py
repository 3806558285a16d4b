"""Scripts of `vlbench completion` without what is generated: how a shell asks, and how it is answered."""

FUNCTIONS = r"""# Prints what can stand at the cursor, a line each; nothing where files can.
# $1 is the program, $2 the word at the cursor as far as it is there, the rest are the words between.
_vlbench_candidates() {
    local program="$1" current="$2" command="" option="" given=0 number value
    shift 2
    while [ $# -gt 0 ] && [ -n "$(_vlbench_prefix "${command:+$command }$1")" ]; do
        command="${command:+$command }$1"
        shift
    done
    [ $# -gt 0 ] || _vlbench_words "$command"
    case "$current" in
    -*) _vlbench_options "$command"; return ;;
    esac
    while [ $# -gt 0 ]; do
        case "$1" in
        -*=*) option="" ;;
        -*) option="$1" given=0 ;;
        *) given=$((given + 1)) ;;
        esac
        shift
    done
    number=$(_vlbench_takes "$command $option" | head -n 1)
    if [ -n "$option" ]; then
        # What it takes is there, so that the next word is no value of it.
        case "${number:-1}$given" in
        0*|1[1-9]*) option="" number=$(_vlbench_takes "$command " | head -n 1) ;;
        esac
    fi
    [ -n "$option" ] || [ "$number" != 0 ] || _vlbench_options "$command"
    _vlbench_takes "$command $option" | while IFS= read -r value; do
        case "$value" in
        @configurations) "$program" completion configs 2>/dev/null ;;
        @suites) "$program" completion configs 2>/dev/null | sed -n 's:^suite/::p' ;;
        [0+1]) ;;
        *) printf '%s\n' "$value" ;;
        esac
    done
}"""
"""Functions of bash and zsh alike, which call those that are generated."""

_BASH = r"""# bash completion of vlbench, made by `vlbench completion bash`
@GENERATED@
_vlbench() {
    local current="${COMP_WORDS[COMP_CWORD]}" words=() word
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        [ "$word" = "=" ] || words+=("$word") # bash takes --option=value apart
    done
    [ "$current" != "=" ] || current=""
    COMPREPLY=()
    while IFS= read -r word; do
        [[ $word != "$current"* ]] || COMPREPLY+=("$word")
    done < <(_vlbench_candidates "${COMP_WORDS[0]}" "$current" "${words[@]}")
}
complete -o default -F _vlbench vlbench
"""

_ZSH = r"""#compdef vlbench
# zsh completion of vlbench, made by `vlbench completion zsh`
@GENERATED@
_vlbench() {
    local -a candidates before
    local current="${words[CURRENT]}"
    before=("${(@)words[2,CURRENT-1]}")
    if [[ $current == --*=* ]]; then
        before+=("${current%%=*}")
        current="${current#*=}"
        compset -P '*='
    fi
    candidates=("${(@f)$(_vlbench_candidates "${words[1]}" "$current" "${before[@]}")}")
    compadd -- ${candidates:#} || _files
}
if [ "$funcstack[1]" = "_vlbench" ]; then
    _vlbench "$@" # read from a folder of $fpath
else
    compdef _vlbench vlbench
fi
"""

_FISH = r"""# fish completion of vlbench, made by `vlbench completion fish`
# Whether these words are the command on the command line, as far as it is there.
function __vlbench_at
    set -l command ''
    for word in (commandline -opc)[2..]
        set -l longer (string trim -- "$command $word")
        contains -- "$longer" $__vlbench_prefixes
        or break
        set command $longer
    end
    test "$command" = "$argv[1]"
end

# Whether the last option on the command line has one of these names.
function __vlbench_after
    set -l options (string match -- '-*' (commandline -opc))
    contains -- "$options[-1]" $argv
end

function __vlbench_configurations
    set -l program (commandline -opc)[1]
    $program completion configs 2>/dev/null
end

function __vlbench_suites
    __vlbench_configurations | string replace -rf '^suite/' ''
end

@GENERATED@
"""

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
"""Script of each shell, with `@GENERATED@` in the place of commands, options and values."""
