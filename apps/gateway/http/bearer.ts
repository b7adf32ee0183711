import type { FastifyRequest } from 'fastify';

/** Gives the bearer token of a request (RFC 6750 section 2.1); undefined without one, or where it has another form. */
export const bearerOf = ({ headers }: Pick<FastifyRequest, 'headers'>): string | undefined =>
  /^Bearer +([\x21-\x7e]+) *$/i.exec(headers.authorization ?? '')?.[1];
