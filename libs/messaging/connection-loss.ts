import { postgresFault } from '@app/database';

/**
 * Tells whether PostgreSQL could not be reached or went away, so that trying again may help. Any other error is a fault
 * of the product.
 */
export const isConnectionLoss = (error: unknown): boolean => postgresFault(error) === 'unreachable';
