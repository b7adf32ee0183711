import type { Connection } from './connections';

/**
 * Checks that another table can take the place of a table under its name.
 *
 * @throws {Error} when it belongs to another role, or another object depends on it that would stay with the old table.
 */
export async function assertReplaceable(client: Connection, table: string): Promise<void> {
  const { rows } = await client.query<{ ours: boolean; owner: string; dependents: string[] }>(
    `SELECT pg_has_role(c.relowner, 'USAGE') AS ours, pg_get_userbyid(c.relowner) AS owner, ARRAY(
       SELECT pg_describe_object('pg_class'::regclass, r.ev_class, 0) FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
       WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid
       UNION SELECT pg_describe_object('pg_constraint'::regclass, f.oid, 0) FROM pg_constraint f
       WHERE f.contype = 'f' AND c.oid IN (f.conrelid, f.confrelid)
       UNION SELECT pg_describe_object('pg_policy'::regclass, p.oid, 0) FROM pg_policy p WHERE p.polrelid = c.oid
       UNION SELECT pg_describe_object('pg_publication_rel'::regclass, p.oid, 0) FROM pg_publication_rel p
       WHERE p.prrelid = c.oid
     ) AS dependents FROM pg_class c WHERE c.oid = $1::regclass`,
    [table],
  );
  const { ours, owner, dependents } = rows[0]!;
  if (!ours) throw new Error(`The table ${table} is ${owner}’s: only its owner can replace it.`);
  if (dependents.length > 0)
    throw new Error(
      `The table ${table} cannot be swapped, since these would stay with the old one: ${dependents.join(', ')}. Drop them for as long as this takes.`,
    );
}

/** Gives a table or sequence the owner and the rights of another one. */
export async function copyRights(client: Connection, from: string, to: string): Promise<void> {
  const { rows } = await client.query<{ owner: string; grants: string[] }>(
    `SELECT quote_ident(pg_get_userbyid(c.relowner)) AS owner, ARRAY(
       SELECT format('GRANT %s%s ON %s%s TO %s%s', a.privilege_type, '(' || quote_ident(a.attname) || ')',
         CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' END, '${to}',
         CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
         CASE WHEN a.is_grantable AND a.grantee <> c.relowner THEN ' WITH GRANT OPTION' END)
       FROM (
         SELECT NULL AS attname, x.* FROM aclexplode(c.relacl) x
         UNION ALL SELECT t.attname, x.* FROM pg_attribute t, aclexplode(t.attacl) x WHERE t.attrelid = c.oid
       ) a
     ) AS grants FROM pg_class c WHERE c.oid = $1::regclass`,
    [from],
  );
  const { owner, grants } = rows[0]!;
  await client.query(`ALTER TABLE ${to} OWNER TO ${owner}`);
  for (const grant of grants) await client.query(grant);
}
