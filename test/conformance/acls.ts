/** POSIX ACLs (acl(5)): kept, in step with the mode, inherited, enforced; and groups of all kinds. */
import { chmod, chown, mkdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Python } from './python.js';
import type { Case } from './suite.js';

/** An ACL from `u::rwx,u:1:r--,g::r--,m::r--,o::---` and back, and a process of somebody else. */
const TOOLS = `
ACCESS, DEFAULT = 'system.posix_acl_access', 'system.posix_acl_default'
TAGS = {('u', 0): 1, ('u', 1): 2, ('g', 0): 4, ('g', 1): 8, ('m', 0): 16, ('o', 0): 32}
def acl(text):
    out = struct.pack('<I', 2)
    for one in text.split(','):
        kind, name, bits = one.split(':')
        number = sum(value for letter, value in (('r', 4), ('w', 2), ('x', 1)) if letter in bits)
        out += struct.pack('<HHI', TAGS[kind, int(name != '')], number, int(name) if name else 0xffffffff)
    return out
def shown(value):
    names = {number: key for key, number in TAGS.items()}
    out = []
    for at in range(4, len(value), 8):
        tag, bits, number = struct.unpack_from('<HHI', value, at)
        kind, named = names[tag]
        rwx = ''.join(letter if bits & value else '-' for letter, value in (('r', 4), ('w', 2), ('x', 1)))
        out.append(f"{kind}:{number if named else ''}:{rwx}")
    return ','.join(out)
def get(path, name): return shown(os.getxattr(path, name))
def can(uid, path, how, gid=None, groups=()):
    def attempt():
        os.setgroups(groups); os.setgid(uid if gid is None else gid); os.setuid(uid)
        os.close(os.open(path, how))
        return True
    pid = os.fork()
    if pid == 0:
        try: attempt(); code = 0
        except PermissionError: code = 1
        except BaseException: code = 2
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
R, W = os.O_RDONLY, os.O_WRONLY
`;

function withTools(python: Python) {
  const tools = TOOLS.split('\n').filter((line) => line !== '');
  return <T>(code: string, variables: Parameters<Python['run']>[1]) => {
    const lines = code.split('\n').filter((line) => line.trim() !== '');
    const margin = Math.min(...lines.map((line) => line.search(/\S/)));
    // Functions of exec'd code see its globals alone.
    const body = [...tools, ...lines.map((line) => line.slice(margin))].join('\n');
    return python.run<T>(
      'names = dict(globals()); names.update(locals()); exec(body.decode(), names); result = names.get("answer")',
      { ...variables, body },
    );
  };
}

const enforced: Case = {
  name: 'acls: named users and groups get what the ACL and its mask give them',
  needs: ['acls'],
  root: true,
  async run(t, directory, python) {
    const path = join(directory, 'file');
    await writeFile(path, 'x');
    await chmod(path, 0o640);
    await chown(path, 2001, 2001);
    const rights = await withTools(python)<boolean[]>(
      `
        os.setxattr(path, ACCESS, acl('u::rw-,u:2002:rw-,u:2003:---,g::r--,g:2010:-w-,m::rw-,o::---'))
        answer = [can(2001, path, R), can(2002, path, R), can(2002, path, W), can(2003, path, R, 2001),
                  can(2004, path, R), can(2004, path, R, 2001), can(2004, path, W, 2001),
                  can(2004, path, W, 2010), can(2004, path, R, 2010), can(2004, path, W, 2004, [2010])]
        os.setxattr(path, ACCESS, acl('u::rw-,u:2002:rw-,g::r--,m::r--,o::---'))
        answer += [can(2002, path, R), can(2002, path, W)]
        os.removexattr(path, ACCESS)
        answer += [can(2002, path, R)]
      `,
      { path },
    );
    t.strictSame(rights, [
      ...[true, true, true, false],
      ...[false, true, false],
      ...[true, false, true],
      ...[true, false],
      false,
    ]);
  },
};

const inStep: Case = {
  name: 'acls: mode and ACL say the same, whichever is changed',
  needs: ['acls'],
  root: true,
  async run(t, directory, python) {
    const path = join(directory, 'file');
    await writeFile(path, 'x');
    await chmod(path, 0o4644);
    const run = withTools(python);
    const set = (text: string) => run('os.setxattr(path, ACCESS, acl(text.decode()))', { path, text });
    const get = () => run<string>('answer = get(path, ACCESS)', { path });
    const mode = async () => ((await stat(path)).mode & 0o7777).toString(8);
    await t.rejects(get(), { code: 'ENODATA' });
    await set('u::rwx,u:2002:rw-,g::r--,m::rw-,o::--x');
    t.equal(await mode(), '4761', 'the mask is the group of the mode');
    await chmod(path, 0o600);
    t.equal(await get(), 'u::rw-,u:2002:rw-,g::r--,m::---,o::---');
    await chmod(path, 0o674);
    t.equal(await get(), 'u::rw-,u:2002:rw-,g::r--,m::rwx,o::r--');
    t.strictSame(await run('answer = os.listxattr(path)', { path }), ['system.posix_acl_access']);
    await set('u::rw-,g::r--,o::---');
    t.equal(await mode(), '640');
    await t.rejects(get(), { code: 'ENODATA' }, 'what the mode says needs no ACL');
    await set('u::rw-,u:2002:rw-,g::r--,m::rw-,o::---');
    await run('os.removexattr(path, ACCESS)', { path });
    t.equal(await mode(), '660', 'the mode stays');
    for (const wrong of ['u::rw-,g::r--', 'u::rw-,u:2002:rw-,g::r--,o::---', 'g::r--,u::rw-,o::---'])
      await t.rejects(set(wrong), { code: 'EINVAL' }, wrong);
    await t.rejects(run('os.setxattr(path, DEFAULT, acl("u::rw-,g::r--,o::---"))', { path }), {
      code: 'EACCES',
    });
    const byOther = run(
      `
        def attempt():
            os.setgid(2009); os.setuid(2009)
            try: os.setxattr(path, ACCESS, acl('u::rw-,u:2009:rw-,g::r--,m::rw-,o::---'))
            except PermissionError: return True
        answer = joined(child(attempt))
      `,
      { path },
    );
    t.equal(await byOther, true, 'only the owner may');
  },
};

const inherited: Case = {
  name: 'acls: what is made in a directory gets its default ACL, and no umask',
  needs: ['acls'],
  root: true,
  async run(t, directory, python) {
    const path = join(directory, 'd');
    await mkdir(path);
    const made = await withTools(python)<(string | number)[]>(
      `
        os.umask(0o027)
        try:
            os.setxattr(path, DEFAULT, acl('u::rwx,u:2002:rwx,g::r-x,m::rwx,o::r--'))
            os.close(os.open(path + b'/f', os.O_CREAT | os.O_WRONLY, 0o666))
            os.mkdir(path + b'/s', 0o777)
            os.mkdir(path + b'/s/t', 0o700)
            os.mkfifo(path + b'/p', 0o644)
            os.symlink(b'f', path + b'/l')
            names = [b'/f', b'/s', b'/s/t', b'/p']
            answer = [oct(os.stat(path + name).st_mode & 0o7777) for name in names]
            answer += [get(path + name, ACCESS) for name in names]
            answer += [get(path + name, DEFAULT) for name in [b'/s', b'/s/t']]
            os.setxattr(path, DEFAULT, acl('u::rwx,g::rwx,o::rwx'))
            os.close(os.open(path + b'/g', os.O_CREAT | os.O_WRONLY, 0o666))
            answer += [oct(os.stat(path + b'/g').st_mode & 0o7777), os.listxattr(path + b'/g')]
            os.removexattr(path, DEFAULT)
            os.close(os.open(path + b'/h', os.O_CREAT | os.O_WRONLY, 0o666))
            answer += [oct(os.stat(path + b'/h').st_mode & 0o7777)]
        finally: os.umask(0o022)
      `,
      { path },
    );
    t.strictSame(made, [
      ...['0o664', '0o774', '0o700', '0o644'],
      'u::rw-,u:2002:rwx,g::r-x,m::rw-,o::r--',
      'u::rwx,u:2002:rwx,g::r-x,m::rwx,o::r--',
      'u::rwx,u:2002:rwx,g::r-x,m::---,o::---',
      'u::rw-,u:2002:rwx,g::r-x,m::r--,o::r--',
      'u::rwx,u:2002:rwx,g::r-x,m::rwx,o::r--',
      'u::rwx,u:2002:rwx,g::r-x,m::rwx,o::r--',
      ...['0o666', []],
      '0o640',
    ]);
  },
};

const groups: Case = {
  name: 'acls: supplementary groups count, also beyond 256 of them',
  needs: ['caller_identity'],
  root: true,
  async run(t, directory, python) {
    const path = join(directory, 'file');
    await writeFile(path, 'x');
    await chown(path, 0, 2999);
    await chmod(path, 0o060);
    const rights = await withTools(python)<boolean[]>(
      `
        many = list(range(2500, 3000))
        def make():
            os.setgroups(many); os.setgid(2001); os.setuid(2001)
            os.close(os.open(directory + b'/mine', os.O_CREAT | os.O_RDWR, 0o600))
            os.setxattr(directory + b'/mine', 'user.name', b'value')
            return os.stat(directory + b'/mine').st_gid == 2001
        answer = [can(2001, path, R, 2001, many), can(2001, path, R, 2001, many[:-1]),
                  joined(child(make))]
      `,
      { path, directory: await opened(directory) },
    );
    t.strictSame(rights, [true, false, true]);
  },
};

async function opened(directory: string): Promise<string> {
  await chmod(directory, 0o777);
  return directory;
}

export const aclCases: readonly Case[] = [enforced, inStep, inherited, groups];
