import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { releases, thisRelease } from '@app/database';
import { breakingChanges, type Document } from './support/openapi-changes';

const root = resolve(__dirname, '..');
const read = (path: string) => readFileSync(join(root, path), 'utf8');
const documentOf = (version: string) => JSON.parse(read(`docs/openapi/${version}.json`)) as Document;

describe('the list of releases', () => {
  it('ends with the version of the packages, and the commits of all others are tagged where there are tags', () => {
    for (const file of ['package.json', 'package-lock.json'])
      expect(JSON.parse(read(file))).toMatchObject({ version: thisRelease.version });
    expect(thisRelease.commit).toBeUndefined();
    for (const { version, commit } of releases.slice(0, -1)) {
      const { stdout } = spawnSync('git', ['rev-parse', '--verify', '--quiet', `v${version}^{commit}`], {
        cwd: root,
        encoding: 'utf8',
      });
      expect(['', commit]).toContain(stdout.trim());
    }
  });

  it('has each work on the tables of the next one', () => {
    for (const [index, { oldest }] of releases.entries())
      expect(oldest).toBe(releases[Math.max(0, index - 1)]!.version);
  });

  it('has a section in the changelog and an OpenAPI document for each, and no client breaks unannounced', () => {
    const changelog = read('CHANGELOG.md');
    const sections = [...changelog.matchAll(/^## \[(\d+\.\d+\.\d+)\]/gm)].map(([, version]) => version!);
    expect(sections).toEqual(releases.map(({ version }) => version).reverse());
    for (const [index, { version }] of releases.entries()) {
      expect(existsSync(join(root, `docs/openapi/${version}.json`))).toBe(true);
      if (index === 0) continue;
      const section = changelog.split(`## [${version}]`)[1]!.split('\n## [')[0]!;
      for (const change of breakingChanges(documentOf(releases[index - 1]!.version), documentOf(version)))
        expect(section).toContain(change);
    }
  });
});
