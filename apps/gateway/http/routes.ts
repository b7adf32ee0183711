import type { FastifyInstance } from 'fastify';

const routes = new WeakMap<object, { pattern: RegExp; method: string }[]>();

/** Notes every route that is added from now on, so that a wrong method can be told from a wrong path. */
export function noteRoutes(fastify: FastifyInstance): void {
  const noted: { pattern: RegExp; method: string }[] = [];
  routes.set(fastify.server, noted);
  fastify.addHook('onRoute', ({ url, method }) => {
    const pattern = new RegExp(
      `^${url
        .replace(/[.+?()]/g, '\\$&')
        .replace(/:[^/]+/g, '[^/]+')
        .replace(/\*/g, '.*')}$`,
    );
    for (const each of [method].flat()) noted.push({ pattern, method: each });
  });
}

/** The methods that a path answers to, sorted. */
export const methodsOf = (fastify: FastifyInstance, path: string): string[] => {
  const known = (routes.get(fastify.server) ?? []).filter(({ pattern }) => pattern.test(path));
  return [...new Set(known.map(({ method }) => method))].sort();
};
