#!/usr/bin/env bash
# Fails if the sources use a word that scripts/vocabulary.txt replaces. Names of files count as well.
set -euo pipefail
cd "$(dirname "$0")/.."

folders=(src policy control-plane tests bench)
# Lock files and binary golden files are not written by hand.
excluded=(':!*.lock' ':!policy/golden/*.bin')
failed=0

while IFS=$'\t' read -r expression term exempt; do
	[[ -z $expression || $expression == \#* ]] && continue
	lines=$(git grep -nIP -e "$expression" -- "${folders[@]}" "${excluded[@]}" || [[ $? == 1 ]])
	names=$(git ls-files -- "${folders[@]}" | grep -P -e "$expression" || [[ $? == 1 ]])
	if [[ -n $exempt ]]; then
		lines=$(grep -vP -e "$exempt" <<<"$lines" || [[ $? == 1 ]])
	fi
	for found in "$lines" "$names"; do
		if [[ -n $found ]]; then
			echo "Use \"$term\" here:"
			cut -c1-200 <<<"$found"
			failed=1
		fi
	done
done <scripts/vocabulary.txt

exit $failed
