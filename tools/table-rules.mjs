import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';

/** Tables that may be used outside the lib that creates them, with the reason. */
const grants = {
  // The audit and the rebuild read the stored rows themselves, whatever wrote them.
  events: ['libs/audit', 'libs/rebuild'],
  // Each transport keeps its position there. The store creates the table, because an import needs to know who has read.
  checkpoints: ['libs/messaging'],
  // Only the scheduler writes these; libs/cycle reads them to tell when a domain is looked at next.
  slots: ['apps/verification-scheduler'],
  watched_domains: ['apps/verification-scheduler'],
};

const memberOf = (root, file) => relative(root, file).split(/[\\/]/).slice(0, 2).join('/');

const ownersByRoot = new Map();

/** Finds the lib or app whose migrations create each table or view. */
function ownersIn(root) {
  const known = ownersByRoot.get(root);
  if (known) return known;
  const owners = new Map();
  const files = ['apps', 'libs'].flatMap((part) =>
    readdirSync(join(root, part), { recursive: true }).map((file) => join(root, part, file)),
  );
  for (const file of files.filter((file) => /(^|\W)migrations?\.ts$/.test(file)))
    for (const [, table] of readFileSync(file, 'utf8').matchAll(/\bCREATE (?:TABLE|VIEW) (\w+)/g))
      owners.set(table, memberOf(root, file));
  if (owners.size === 0) throw new Error(`No migration in ${root} creates a table.`);
  ownersByRoot.set(root, owners);
  return owners;
}

/** Forbids SQL on a table outside the lib or app whose migration creates it, except for `grants`. */
export const tablesAtHome = {
  meta: {
    type: 'problem',
    schema: [],
    messages: { stray: '{{owner}} creates the table {{table}}: give it a function for this SQL.' },
  },
  create(context) {
    const owners = ownersIn(context.cwd);
    const member = memberOf(context.cwd, context.filename);
    const named = new RegExp(
      `\\b(?:FROM|JOIN|INTO|UPDATE|TABLE|COPY|TRUNCATE|USING|REFERENCES|ON)\\s+(?:ONLY\\s+)?(${[...owners.keys()].join('|')})\\b`,
      'g',
    );
    const look = (node, text) => {
      for (const [, table] of text.matchAll(named)) {
        const owner = owners.get(table);
        if (owner !== member && !grants[table]?.includes(member))
          context.report({ node, messageId: 'stray', data: { table, owner } });
      }
    };
    return {
      Literal: (node) => typeof node.value === 'string' && look(node, node.value),
      TemplateElement: (node) => look(node, node.value.raw),
    };
  },
};
