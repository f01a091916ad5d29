# The packages of this repository, installed into the mount.
set -e
mkdir "$MNT/npm" && cd "$MNT/npm"
cp "$REPOSITORY/package.json" "$REPOSITORY/package-lock.json" .
npm ci --ignore-scripts --no-audit --no-fund > "$WORK/npm.log" 2>&1 || { tail -20 "$WORK/npm.log"; exit 1; }
npm ls > /dev/null
node -e 'require("commander"); require("msgpackr"); require("typescript")'
