# bash completion for gannet

_gannet() {
    local cur prev
    cur=${COMP_WORDS[COMP_CWORD]}
    prev=${COMP_WORDS[COMP_CWORD-1]}
    if [[ ${COMP_WORDS[1]} == state && $COMP_CWORD -gt 1 ]]; then
        if [[ $COMP_CWORD -eq 2 ]]; then
            COMPREPLY=($(compgen -W "info verify convert diff --help" -- "$cur"))
        elif [[ $cur == -* && ${COMP_WORDS[2]} == convert ]]; then
            COMPREPLY=($(compgen -W "--zstd --zstd= --raw" -- "$cur"))
        elif [[ $cur == -* ]]; then
            COMPREPLY=($(compgen -W "--json $([[ ${COMP_WORDS[2]} == info ]] && echo --fields)" -- "$cur"))
        else
            COMPREPLY=($(compgen -f -- "$cur"))
        fi
        return
    fi
    if [[ ${COMP_WORDS[1]} == ctl && $COMP_CWORD -gt 1 ]]; then
        if [[ $COMP_CWORD -eq 3 ]]; then
            COMPREPLY=($(compgen -W "status pause resume reset power quit save net link backend stage ip announce capture type key send wait serial screen screenshot events" -- "$cur"))
        elif [[ $cur == -* ]]; then
            COMPREPLY=($(compgen -W "--json --timeout --compress --regex --enter --port --help" -- "$cur"))
        else
            case ${COMP_WORDS[3]}-$COMP_CWORD in
            wait-4) COMPREPLY=($(compgen -W "serial serial1 screen" -- "$cur")) ;;
            capture-4) COMPREPLY=($(compgen -W "start stop" -- "$cur")) ;;
            link-5) COMPREPLY=($(compgen -W "up down" -- "$cur")) ;;
            stage-5) COMPREPLY=($(compgen -W "translate capture-guest capture-wire" -- "$cur")) ;;
            stage-6) COMPREPLY=($(compgen -W "on off" -- "$cur")) ;;
            -2|save-4|screenshot-4|capture-5) COMPREPLY=($(compgen -f -- "$cur")) ;;
            esac
        fi
        return
    fi
    if [[ ${COMP_WORDS[1]} == clone && $COMP_CWORD -gt 1 ]]; then
        if [[ $COMP_CWORD -eq 2 ]]; then
            COMPREPLY=($(compgen -f -- "$cur"))
            return
        elif [[ $cur == -* ]]; then
            COMPREPLY=($(compgen -W "-n --name --first --interval --json --net --ip --mac --clock --serial --control --capture --engine --stats" -- "$cur"))
            return
        fi
    fi
    case ${prev#-} in
    cpu) COMPREPLY=($(compgen -W "$(gannet -cpu help 2> /dev/null | cut -d' ' -f1) help" -- "$cur")) ;;
    engine|-engine) COMPREPLY=($(compgen -W "jit interp" -- "$cur")) ;;
    d) COMPREPLY=($(compgen -W "$(gannet -d help 2> /dev/null) help" -- "$cur")) ;;
    display) COMPREPLY=($(compgen -W "curses sdl none" -- "$cur")) ;;
    serial|debugcon|-firmware-log) COMPREPLY=($(compgen -W "stdio file: pty unix: tcp: null none" -- "$cur")) ;;
    device) COMPREPLY=($(compgen -W "isa-debug-exit" -- "$cur")) ;;
    boot) COMPREPLY=($(compgen -W "a c d n order= menu=on" -- "$cur")) ;;
    net|-net) COMPREPLY=($(compgen -W "user: loopback: ws:// wss:// pcap: tap: stream:unix: stream:tcp: none help" -- "$cur")) ;;
    nic|-nic) COMPREPLY=($(compgen -W "model=ne2k_pci model=ne2k_isa mac= wire= ip= net= romfile=" -- "$cur")) ;;
    mac|-mac) COMPREPLY=($(compgen -W "translate preserve new" -- "$cur")) ;;
    clock|-clock) COMPREPLY=($(compgen -W "continue host" -- "$cur")) ;;
    control|-control|capture|-capture|save|-save|restore|-restore|kernel|initrd|bios|hda|hdb|hdc|hdd|cdrom|fda|fdb|D) COMPREPLY=($(compgen -f -- "$cur")) ;;
    m|append) COMPREPLY=() ;;
    *)
        if [[ $cur == -* ]]; then
            COMPREPLY=($(compgen -W "$(gannet --help 2> /dev/null | sed -n 's/^  \(-[-a-zA-Z]*\).*/\1/p') -hdb -hdc -hdd -fdb" -- "$cur"))
        else
            COMPREPLY=($(compgen -f -- "$cur"))
        fi ;;
    esac
}
complete -o filenames -F _gannet gannet
