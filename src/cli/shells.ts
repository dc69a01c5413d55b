/**
 * The shells' own parts of completion. Each hands `ublk complete --` the words of the line and
 * takes lines of "value<TAB>meaning"; "<file>" stands for whatever files there are.
 */

const BASH = `# ublk in bash: eval "$(ublk complete bash)", or a file "ublk" in bash-completion's directory
_ublk() {
  local typed="\${COMP_WORDS[COMP_CWORD]}" value what
  COMPREPLY=()
  while IFS=$'\\t' read -r value what; do
    if [ "$value" = "<file>" ]; then
      compopt -o filenames 2>/dev/null
      while IFS= read -r value; do COMPREPLY+=("$value"); done < <(compgen -f -- "$typed")
    else
      COMPREPLY+=("$value")
    fi
  done < <("\${COMP_WORDS[0]}" complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _ublk ublk
`;

const ZSH = `#compdef ublk
# ublk in zsh: a file "_ublk" in a directory of $fpath, or eval "$(ublk complete zsh)"
_ublk() {
  local -a found
  local value what files=
  while IFS=$'\\t' read -r value what; do
    if [[ "$value" == "<file>" ]]; then files=1
    else found+=("\${value//:/\\\\:}\${what:+:$what}"); fi
  done < <("\${words[1]}" complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)
  if [[ -n "$files" ]]; then
    [[ "$PREFIX" == --*=* ]] && compset -P '*='
    _files
  else
    _describe ublk found
  fi
}
if [[ "\${funcstack[1]}" == "_ublk" ]]; then _ublk "$@"; else compdef _ublk ublk; fi
`;

const FISH = `# ublk in fish: ~/.config/fish/completions/ublk.fish, or ublk complete fish | source
function __ublk_next
  set -l words (commandline -opc)
  $words[1] complete -- $words[2..-1] (commandline -ct) 2>/dev/null
end
complete -c ublk -f -a '(__ublk_next | string match -v "<file>*")'
complete -c ublk -n '__ublk_next | string match -q "<file>*"' -F
`;

export const SHELLS: Record<string, string> = { bash: BASH, zsh: ZSH, fish: FISH };
