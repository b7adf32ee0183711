import type { FastifyInstance } from 'fastify';

interface Routes {
  /** Methods by path, of the routes without parameters. */
  readonly fixed: Map<string, Set<string>>;
  readonly patterns: { readonly pattern: RegExp; readonly method: string }[];
}

const routes = new WeakMap<object, Routes>();

/**
 * Records every route that is added later, so that a wrong method (405) can be distinguished from a wrong path (404).
 */
export function noteRoutes(fastify: FastifyInstance): void {
  const noted: Routes = { fixed: new Map(), patterns: [] };
  routes.set(fastify.server, noted);
  fastify.addHook('onRoute', ({ url, method }) => {
    const isFixed = !/[:*]/.test(url);
    const pattern = new RegExp(
      `^${url
        .replace(/[.+?()]/g, '\\$&')
        .replace(/:[^/]+/g, '[^/]+')
        .replace(/\*/g, '.*')}$`,
    );
    for (const each of [method].flat()) {
      if (isFixed) noted.fixed.set(url, (noted.fixed.get(url) ?? new Set()).add(each));
      else noted.patterns.push({ pattern, method: each });
    }
  });
}

/** Tells whether a path is that of a route without parameters. */
export const isFixed = (fastify: FastifyInstance, path: string): boolean =>
  routes.get(fastify.server)?.fixed.has(path) ?? false;

/**
 * Gives the methods that a path supports, sorted. Where the path is that of a route without parameters, only its own
 * count: what a route with parameters would say of it is that there is no such thing.
 */
export const methodsOf = (fastify: FastifyInstance, path: string): readonly string[] => {
  const { fixed, patterns } = routes.get(fastify.server) ?? { fixed: new Map<string, Set<string>>(), patterns: [] };
  const own = fixed.get(path);
  if (own) return [...own].sort();
  return [...new Set(patterns.filter(({ pattern }) => pattern.test(path)).map(({ method }) => method))].sort();
};
